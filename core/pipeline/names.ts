import { hash } from 'node:crypto'

/** RFC 9562 §5.5, namespace = a fixed random UUID of hydrant's. */
const NAMESPACE = Buffer.from('6f1b6b0c0f0e4d0c9a54f3b1b5a0c6e7', 'hex')

function uuid5(name: string): string {
  const h = hash('sha1', Buffer.concat([NAMESPACE, Buffer.from(name, 'utf8')]), 'hex')
  const variant = ((parseInt(h.slice(16, 18), 16) & 0x3f) | 0x80).toString(16)
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-5${h.slice(13, 16)}-${variant}${h.slice(18, 20)}-${h.slice(20, 32)}`
}

export interface TokenOf {
  readonly pipelineId: string
  readonly lineage: number
  readonly topicId: string
  readonly shard: string
  readonly start: number
}
/** Names an effect. Made from the cut's start: never from its end, a clock, a compressed size or a version (I16). */
export function tokenOf(t: TokenOf, partitionValue: string, index: string): string {
  return uuid5([t.pipelineId, t.lineage, t.topicId, t.shard, t.start, partitionValue, index].join('/'))
}
