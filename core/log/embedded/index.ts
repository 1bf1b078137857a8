/** The embedded log: the append-only store and control state of a daemon without Kafka, on LMDB (architecture §4). */
import type { EmbeddedLog, EmbeddedLogOptions } from './open.ts'
import { openWith } from './open.ts'

export type { EmbeddedLog, EmbeddedLogOptions } from './open.ts'
export { CorruptRowError } from './frames.ts'

/**
 * Opens (or makes) the log in a data folder, once per process start: takes the folder's lock and counts the boot.
 * Rejects with ConfigError: folder in use, network file system, copied folder.
 */
export function openEmbeddedLog(o: EmbeddedLogOptions): Promise<EmbeddedLog> {
  return openWith(o, {})
}
