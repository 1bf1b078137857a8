import { killSuite } from '../harness/killsuite.ts'

killSuite({ strength: 2, project: 'integration', file: 'test/integration/killpoints.test.ts' })
