import { givingUp } from '../harness/giveup.ts'
import { badNetwork, scriptedFaults, trickle } from '../harness/storesuite.ts'
import { FAULTS, OPERATIONS, possible } from '../harness/storecase.ts'

// the slow ones (429 asks for a pause, hang and late use up the time-out) share groups
const cases = [10, 1].flatMap((times) => FAULTS.flatMap((fault) => OPERATIONS.map((operation) => ({ fault, operation, times }))))
scriptedFaults(cases.filter(possible))
badNetwork(3_000)
trickle(['500', 'slow-down', 'reset', 'hang'], 6_000, { pipelines: 1, shards: 8 })
trickle(['500'], 6_000, { pipelines: 5, shards: 16 })
givingUp({ muteMs: 5_000, flapMs: 30_000 })
