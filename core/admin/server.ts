import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { PipelineOperator } from '../pipeline/control.ts'
import type { Logger } from '../sdk/sink.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { ConfigError, errorCode } from '../sdk/errors.ts'
import { limits } from '../limits.ts'
import { checkOperatorRequest, Refusal } from './gate.ts'
import { callOperator, errorAnswer, OPERATOR_ACTIONS, type Answer } from './operations.ts'

export interface Readiness {
  readonly ready: boolean
  /** Why not, one line each; empty when ready. */
  readonly reasons: readonly string[]
}
export interface AdminOptions {
  readonly listen: { readonly host: string; readonly port: number }
  /** Asked on every /health/ready: answers from memory, at once. */
  readonly readiness: () => Readiness
  readonly metrics: Pick<Metrics, 'prometheus' | 'cloudWatch'>
  /** null while the daemon starts: admin calls are answered 503 then. */
  readonly operator: () => PipelineOperator | null
  readonly log: Logger
}
export interface AdminServer {
  /** `http://127.0.0.1:4581`. */
  readonly address: string
  readonly port: number
  /** Stops listening, lets answers in flight end for at most 1 s. */
  close(): Promise<void>
}

async function readBody(req: IncomingMessage): Promise<unknown> {
  const length = Number(req.headers['content-length'] ?? 0)
  const tooLarge = new Refusal(413, `the body may have ${limits.adminBodyBytes} bytes`)
  if (length > limits.adminBodyBytes) throw tooLarge
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of req as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > limits.adminBodyBytes) throw tooLarge
    chunks.push(chunk)
  }
  if (size === 0) return {}
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown
  } catch {
    throw new Refusal(400, 'the body is not JSON')
  }
}

/** What stands at `/`, for whoever opens the port in a browser. */
const INDEX =
  'hydrant: the port of the operator\n\n' +
  'GET  /health/live         the process answers\n' +
  'GET  /health/ready        it takes puts; 503 and the reasons when not\n' +
  'GET  /metrics             Prometheus\n' +
  "GET  /metrics/cloudwatch  the same under AWS's names\n" +
  'GET  /pipelines           position, lag, state of every shard (loopback only, as all below)\n' +
  `POST /pipelines/NAME/ACTION   ${OPERATOR_ACTIONS.join(', ')}: what \`hydrant pipelines\` calls\n`

const json = (status: number, body: unknown): Answer => ({ status, contentType: 'application/json', body: `${JSON.stringify(body)}\n` })

/** Health and metrics: no state is changed, no secret shown; anybody who reaches the port may ask. */
async function observe(path: string, o: AdminOptions): Promise<Answer | null> {
  if (path === '/') return { status: 200, contentType: 'text/plain; charset=utf-8', body: INDEX }
  if (path === '/health/live') return json(200, { status: 'live' })
  if (path === '/health/ready') {
    const { ready, reasons } = o.readiness()
    return json(ready ? 200 : 503, { status: ready ? 'ready' : 'not ready', reasons })
  }
  if (path === '/metrics') return { status: 200, ...(await o.metrics.prometheus()) }
  if (path === '/metrics/cloudwatch') return json(200, o.metrics.cloudWatch())
  return null
}

async function answer(req: IncomingMessage, o: AdminOptions): Promise<Answer> {
  const path = (req.url ?? '').split('?')[0] ?? ''
  const method = req.method ?? ''
  const reading = method === 'GET' || method === 'HEAD'
  const seen = reading ? await observe(path, o) : null
  if (seen) return seen
  checkOperatorRequest(req, o.listen.host)
  return callOperator(method, path, () => readBody(req), o.operator())
}

async function handle(req: IncomingMessage, res: ServerResponse, o: AdminOptions): Promise<void> {
  let a: Answer
  try {
    a = await answer(req, o)
  } catch (e) {
    if (res.destroyed) return // the client hung up
    a = errorAnswer(e)
    if (a.status === 500) o.log.error({ err: e, method: req.method, path: req.url }, 'an admin call ended with an error')
  }
  if (res.destroyed) return
  const headers: Record<string, string> = {
    'content-type': a.contentType,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  }
  if (a.allow) headers['allow'] = a.allow
  // what is left of a body nobody read must not be taken for the next request
  if (!req.complete) headers['connection'] = 'close'
  res.writeHead(a.status, headers).end(req.method === 'HEAD' ? undefined : a.body)
}

function listening(server: Server, o: AdminOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (e) => {
      const taken =
        errorCode(e) === 'EADDRINUSE' ? ': another hydrant, or another program, has the address: change admin.listen or stop it' : ''
      const what = `listening on ${o.listen.host}:${o.listen.port} (admin.listen): ${e.message}${taken}`
      reject(new ConfigError('Listen', what, { cause: e }))
    })
    server.listen(o.listen.port, o.listen.host, () => resolve())
  })
}

/** Opens the operator's port. Rejects when the address cannot be had. */
export async function startAdmin(o: AdminOptions): Promise<AdminServer> {
  const server = createServer(
    {
      requestTimeout: limits.adminRequestMs,
      headersTimeout: limits.adminRequestMs,
      keepAliveTimeout: limits.adminRequestMs,
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: limits.httpHeaderBytes,
    },
    (req, res) => void handle(req, res, o).catch((e: unknown) => o.log.error({ err: e }, 'answering an admin request')),
  )
  server.maxConnections = limits.adminConnections
  await listening(server, o)
  server.on('error', (e) => o.log.error({ err: e }, 'the admin port had an error'))
  const { port } = server.address() as AddressInfo
  const host = o.listen.host.includes(':') ? `[${o.listen.host}]` : o.listen.host
  return {
    address: `http://${host}:${port}`,
    port,
    close: () =>
      new Promise((resolve) => {
        const force = setTimeout(() => server.closeAllConnections(), 1_000)
        server.close(() => {
          clearTimeout(force)
          resolve()
        })
        server.closeIdleConnections()
      }),
  }
}
