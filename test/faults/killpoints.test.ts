import { killSuite } from '../harness/killsuite.ts'

killSuite({ strength: 3, project: 'faults', file: 'test/faults/killpoints.test.ts' })
