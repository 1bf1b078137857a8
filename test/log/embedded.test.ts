import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { realHost } from '../../core/host/host.ts'
import { openEmbeddedLog } from '../../core/log/embedded/index.ts'
import { logContract } from './contract.ts'

logContract('embedded', async () => {
  const path = mkdtempSync(join(tmpdir(), 'hydrant-log-'))
  const open = (): ReturnType<typeof openEmbeddedLog> =>
    openEmbeddedLog({ path, host: realHost(), events: { emit: () => {} }, freeDiskBytes: 0 })
  let log = await open()
  return {
    log,
    reopen: async () => {
      await log.close()
      return (log = await open())
    },
    stop: async () => {
      await log.close()
      rmSync(path, { recursive: true, force: true })
    },
  }
})
