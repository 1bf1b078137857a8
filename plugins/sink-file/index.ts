import type { ObjectSinkPlugin, PluginKit } from 'hydrant/sdk'
import { FileSink } from './file-sink.ts'

export interface FileOptions {
  readonly path: string
}

/** `type: file`: a folder takes the place of a bucket. */
const plugin = (kit: PluginKit): ObjectSinkPlugin<FileOptions> => ({
  name: 'file',
  kind: 'object',
  guarantee: 'exactly-once',
  ordered: false,
  summary: 'A folder: every object is a whole, synced file or not there',
  options: kit.z.strictObject({
    path: kit.z.string().min(1).meta({
      description: 'Folder that objects are written below; made when missing. Relative paths start at the configuration file.',
    }),
  }),
  target: (o) => ({ path: o.path }),
  limits: () => ({ maxBytes: Number.MAX_SAFE_INTEGER, maxRecords: Number.MAX_SAFE_INTEGER, concurrency: 8, unit: 'batch' }),
  create: (o, context) => new FileSink(o.path, context, kit),
})
export default plugin
