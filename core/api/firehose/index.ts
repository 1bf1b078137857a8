import { serviceOf, type Service } from '../service.ts'
import { firehose as model } from '../shapes.generated.ts'
import type { FirehoseContext } from './context.ts'
import { lifecycleOperations } from './create.ts'
import { describeOperations } from './describe.ts'
import { encryptionOperations } from './encryption.ts'
import { putOperations } from './put.ts'
import { tagOperations } from './tags.ts'
import { updateOperations } from './update.ts'

export type { FirehoseContext } from './context.ts'

/** Amazon Data Firehose, all twelve operations. */
export function firehoseService(c: FirehoseContext): Service {
  return serviceOf(model, [
    ...putOperations(c),
    ...lifecycleOperations(c),
    ...describeOperations(c),
    ...tagOperations(c),
    ...updateOperations(c),
    ...encryptionOperations(c),
  ])
}
