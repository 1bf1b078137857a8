import { goProgram } from './cache.ts'
import { start, type Service } from './service.ts'

const PROGRAM = { name: 'toxiproxy', source: 'github.com/Shopify/toxiproxy/v2/cmd/server', version: 'v2.12.0', binary: 'server' }

export interface Toxic {
  remove(): Promise<void>
}
/** One listener in front of one service. */
export interface Proxy {
  readonly url: string
  /**
   * Types and attributes as toxiproxy's README has them. Useful: `latency {latency, jitter}`, `bandwidth {rate}` (KB/s),
   * `limit_data {bytes}` (upstream: the request is cut; downstream 26: the answer is lost after the request was applied, a
   * `100 Continue` still passes), `reset_peer {timeout}`, `timeout {timeout: 0}` (hangs).
   */
  toxic(type: string, stream: 'upstream' | 'downstream', attributes: Readonly<Record<string, number>>): Promise<Toxic>
  /** false: connections are refused. */
  enable(on: boolean): Promise<void>
  remove(): Promise<void>
}
export interface Toxiproxy extends Service {
  proxy(upstream: string): Promise<Proxy>
}

/** Path of the program, built when missing. Throws MissingServiceError. */
export function installToxiproxy(): Promise<string> {
  return goProgram(PROGRAM)
}

export async function startToxiproxy(): Promise<Toxiproxy> {
  const command = await installToxiproxy()
  const service = await start({
    name: PROGRAM.name,
    command,
    args: (port) => ['-host', '127.0.0.1', '-port', String(port)],
    env: { LOG_LEVEL: 'error' },
    ready: '/version',
  })
  const call = async (method: string, path: string, body?: object): Promise<unknown> => {
    const r = await fetch(service.url + path, { method, ...(body ? { body: JSON.stringify(body) } : {}) })
    const text = await r.text()
    if (!r.ok) throw new Error(`toxiproxy ${method} ${path}: ${r.status} ${text}`)
    return text === '' ? null : (JSON.parse(text) as unknown)
  }
  let count = 0
  const proxy = async (upstream: string): Promise<Proxy> => {
    const name = `proxy-${++count}`
    const made = await call('POST', '/proxies', { name, listen: '127.0.0.1:0', upstream: new URL(upstream).host, enabled: true })
    return {
      url: `http://${(made as { listen: string }).listen}`,
      enable: async (on) => void (await call('POST', `/proxies/${name}`, { enabled: on })),
      remove: async () => void (await call('DELETE', `/proxies/${name}`)),
      toxic: async (type, stream, attributes) => {
        const toxic = `toxic-${++count}`
        await call('POST', `/proxies/${name}/toxics`, { name: toxic, type, stream, toxicity: 1, attributes })
        return { remove: async () => void (await call('DELETE', `/proxies/${name}/toxics/${toxic}`)) }
      },
    }
  }
  return {
    url: service.url,
    pid: service.pid,
    get logs() {
      return service.logs
    },
    stop: () => service.stop(),
    proxy,
  }
}
