import { randomKills } from '../harness/randomkills.ts'

randomKills({ kills: 20, project: 'integration', file: 'test/integration/random-kills.test.ts' })
