import { givingUp } from '../harness/giveup.ts'
import { badNetwork, scriptedFaults, trickle } from '../harness/storesuite.ts'

scriptedFaults([
  { fault: 'reset', operation: 'put', times: 1 },
  { fault: 'slow-down', operation: 'put', times: 10 },
  { fault: 'applied-no-answer', operation: 'put', times: 1 },
  { fault: 'applied-500', operation: 'put', times: 10 },
  { fault: 'late', operation: 'put', times: 1 },
  { fault: 'hang', operation: 'head', times: 1 },
  { fault: '500', operation: 'head', times: 10 },
  { fault: '429', operation: 'head', times: 1 },

  { fault: 'reset', operation: 'create', times: 1 },
  { fault: 'applied-no-answer', operation: 'create', times: 1 },
  { fault: 'hang', operation: 'part', times: 1 },
  { fault: '500', operation: 'part', times: 10 },
  { fault: 'applied-no-answer', operation: 'complete', times: 1 },
  { fault: 'error-in-200', operation: 'complete', times: 10 },
  { fault: 'applied-error-in-200', operation: 'complete', times: 1 },
  { fault: 'applied-truncated', operation: 'complete', times: 1 },
])
badNetwork(600)
trickle(['500'], 3_000, { pipelines: 1, shards: 8 })
givingUp({ muteMs: 600, flapMs: 5_000 })
