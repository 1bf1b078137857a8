import { declare, type Operation } from '../service.ts'
import { firehose as model } from '../shapes.generated.ts'
import { refuseYaml, streamOf, type FirehoseContext } from './context.ts'
import { notSupported } from './rules.ts'

/**
 * StartDeliveryStreamEncryption is refused: records in the log are not encrypted yet, and saying they were would be worse than a no.
 * StopDeliveryStreamEncryption finds nothing to stop: the status is DISABLED before and after, as on AWS.
 */
export function encryptionOperations(c: FirehoseContext): Operation[] {
  return [
    declare(model, 'StartDeliveryStreamEncryption', (input, call) => {
      refuseYaml(streamOf(c, call, 'StartDeliveryStreamEncryption', input))
      throw notSupported('Server-side encryption (StartDeliveryStreamEncryption)')
    }),
    declare(model, 'StopDeliveryStreamEncryption', (input, call) => {
      refuseYaml(streamOf(c, call, 'StopDeliveryStreamEncryption', input))
      return {}
    }),
  ]
}
