import { ConfigError } from '../sdk/errors.ts'
import type { Compression, CompressionInfo, FormatSpec } from './types.ts'

/** Content-Type of every object, whatever is in it (firehose.md §3.3). */
export const CONTENT_TYPE = 'application/octet-stream'

// Content-Encoding values are Firehose's own, `snappy-java` included; zstd is RFC 8878's token
const table: Readonly<Record<Compression, CompressionInfo>> = {
  none: { extension: '', contentEncoding: undefined },
  gzip: { extension: '.gz', contentEncoding: 'gzip' },
  zip: { extension: '.zip', contentEncoding: 'zip' },
  snappy: { extension: '.snappy', contentEncoding: 'snappy-java' },
  hadoop_snappy: { extension: '.snappy', contentEncoding: 'hadoop-snappy' },
  zstd: { extension: '.zst', contentEncoding: 'zstd' },
}

/** What names and headers of objects say about a compression. A configured file extension replaces the extension, nothing else. */
export function compressionInfo(c: Compression): CompressionInfo {
  return table[c]
}

const maxLevel: Readonly<Record<Compression, number>> = { none: 0, gzip: 9, zip: 9, snappy: 0, hadoop_snappy: 0, zstd: 19 }

/** Throws ConfigError when the parts of a format do not go together. */
export function checkFormat(spec: FormatSpec): void {
  const { compression, level, delimiter } = spec
  const max = maxLevel[compression]
  if (level !== undefined && max === 0) {
    throw new ConfigError('Format.Level', `compression ${compression} has no level, but level ${level} is set`)
  }
  if (level !== undefined && !(Number.isInteger(level) && level >= 1 && level <= max)) {
    throw new ConfigError('Format.Level', `level ${level} of ${compression}: a whole number from 1 to ${max} is allowed`)
  }
  if (delimiter === undefined) return
  if (spec.type !== 'raw') throw new ConfigError('Format.Delimiter', `a delimiter goes with format raw, not with ${spec.type}`)
  if (delimiter === '' || Buffer.from(delimiter, 'base64').toString('base64') !== delimiter) {
    throw new ConfigError('Format.Delimiter', `delimiter ${JSON.stringify(delimiter)} is not base64 of at least one byte`)
  }
}
