import { randomKills } from '../harness/randomkills.ts'

randomKills({ kills: 200, project: 'faults', file: 'test/faults/random-kills.test.ts' })
