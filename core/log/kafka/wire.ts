/**
 * The one file that imports @platformatic/kafka: wire messages, names of errors and SASL mechanisms. Whoever uses Kafka loads log/kafka
 * by `await import`, so nobody else pays for it.
 */
import {
  apiVersionsV3,
  consumerGroupHeartbeatV1,
  createPartitionsV3,
  createTopicsV7,
  deleteRecordsV2,
  deleteTopicsV6,
  describeConfigsV4,
  fetchV17,
  findCoordinatorV6,
  GenericError,
  heartbeatV4,
  incrementalAlterConfigsV1,
  initProducerIdV4,
  joinGroupV9,
  leaveGroupV5,
  listOffsetsV9,
  metadataV12,
  offsetCommitV9,
  offsetFetchV9,
  offsetForLeaderEpochV4,
  protocolAPIsById,
  protocolErrors,
  protocolErrorsCodesById,
  Reader,
  ResponseError,
  saslAuthenticateV2,
  saslHandshakeV1,
  saslOAuthBearer,
  saslPlain,
  saslScramSha,
  syncGroupV5,
  Writer,
  type API,
  type Connection as LibraryConnection,
} from '@platformatic/kafka'

export { Reader, Writer }
export type SaslAnswer = Awaited<ReturnType<typeof saslAuthenticateV2.api.async>>

/** One call, ready to be sent. */
export interface Message<R> {
  readonly key: number
  readonly version: number
  readonly body: Buffer
  /** Whether header and answer have tagged fields: those of a flexible version do. */
  readonly flexible: { readonly request: boolean; readonly response: boolean }
  /** Throws when the answer holds errors (see faultsOf). */
  parse(answer: Buffer): R
}
/** One version of one call. A = its arguments, R = its parsed answer. */
export interface Api<A extends readonly unknown[], R> {
  readonly key: number
  readonly version: number
  /** Throws when an argument cannot be written. */
  message(args: A): Message<R>
}
/** What a call of this api resolves with. */
export type AnswerOf<T> = T extends { message(args: never): Message<infer R> } ? R : never

function api<A extends unknown[], R>(of: API<A, R>): Api<A, R> {
  const { key, version } = of
  const message = (args: A): Message<R> => {
    let sent: Message<R> | null = null
    // all that the library's apis do with a connection is to call its `send`, at once: so they can be asked what they would send
    const send: LibraryConnection['send'] = (_key, _version, createPayload, parser, request, response) => {
      const parse = (answer: Buffer): R => parser(0, key, version, Reader.from(answer)) as R
      sent = { key, version, body: (createPayload() as Writer).buffer, flexible: { request, response }, parse }
    }
    of({ send } as unknown as LibraryConnection, ...(args as never))
    if (sent === null) throw new Error(`${apiName(key)} v${version} did not say what it sends`)
    return sent
  }
  return { key, version, message }
}

/** Each in a version that 3.9 and 4.1 both speak, but for consumerGroupHeartbeat, which begins with 4.0 as far as we use it. */
export const apis = {
  apiVersions: api(apiVersionsV3.api),
  metadata: api(metadataV12.api),
  findCoordinator: api(findCoordinatorV6.api),
  createTopics: api(createTopicsV7.api),
  deleteTopics: api(deleteTopicsV6.api),
  createPartitions: api(createPartitionsV3.api),
  deleteRecords: api(deleteRecordsV2.api),
  describeConfigs: api(describeConfigsV4.api),
  incrementalAlterConfigs: api(incrementalAlterConfigsV1.api),
  listOffsets: api(listOffsetsV9.api),
  offsetForLeaderEpoch: api(offsetForLeaderEpochV4.api),
  initProducerId: api(initProducerIdV4.api),
  consumerGroupHeartbeat: api(consumerGroupHeartbeatV1.api),
  joinGroup: api(joinGroupV9.api),
  syncGroup: api(syncGroupV5.api),
  heartbeat: api(heartbeatV4.api),
  leaveGroup: api(leaveGroupV5.api),
  offsetCommit: api(offsetCommitV9.api),
  offsetFetch: api(offsetFetchV9.api),
  saslHandshake: api(saslHandshakeV1.api),
  saslAuthenticate: api(saslAuthenticateV2.api),
} as const

/** Of calls whose answer stays bytes (Connection.request). */
export const FETCH = { key: 1, version: 17 } as const
export const PRODUCE = { key: 0, version: 9 } as const
export const fetchRequest = (...args: Parameters<typeof fetchV17.createRequest>): Writer => fetchV17.createRequest(...args)

export function apiName(key: number): string {
  return (protocolAPIsById as Readonly<Record<number, string>>)[key] ?? `api ${key}`
}

/** One error code that stands in a broker's answer. */
export interface Fault {
  readonly code: number
  /** Kafka's name of it, such as NOT_LEADER_OR_FOLLOWER. */
  readonly name: string
  /** Where in the answer: /topics/0/partitions/3. */
  readonly path: string
  readonly retriable: boolean
  /** The broker's own words where it has any, else the library's. */
  readonly message: string
}

const errorsByName = protocolErrors as Readonly<Record<string, { code: number; canRetry: boolean; message: string } | undefined>>

export function faultOf(code: number, path: string, words?: string | null): Fault {
  const name = (protocolErrorsCodesById as Readonly<Record<number, string>>)[code]
  const known = name === undefined ? undefined : errorsByName[name]
  const message = words ?? known?.message ?? 'an error code that is not in the list'
  return { code, name: name ?? `error ${code}`, path, retriable: known?.canRetry ?? false, message }
}

/** The broker answered, and its answer holds these errors; `response` is all of it. null: another kind of error. */
export function faultsOf(e: unknown): { faults: readonly Fault[]; response: unknown } | null {
  if (!(e instanceof ResponseError)) return null
  const { errors, response } = e as unknown as { errors: readonly unknown[]; response: unknown }
  const faults = errors.flatMap((one) => {
    if (!(one instanceof GenericError)) return []
    const { apiCode, path, serverErrorMessage } = one as unknown as { apiCode: number; path: string; serverErrorMessage: string | null }
    return [faultOf(apiCode, path, serverErrorMessage)]
  })
  return { faults, response }
}

export interface PasswordLogin {
  readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'
  readonly username: string
  readonly password: string | (() => string | Promise<string>)
}
export interface TokenLogin {
  readonly mechanism: 'OAUTHBEARER'
  /** Asked at each authentication: a token may be short-lived. */
  readonly token: () => string | Promise<string>
  readonly extensions?: Readonly<Record<string, string>>
}
export type Login = PasswordLogin | TokenLogin

/** Runs a mechanism over `exchange`, which sends bytes as SaslAuthenticate. Rejects with what exchange or the mechanism says. */
export function login(o: Login, exchange: (bytes: Buffer) => Promise<SaslAnswer>): Promise<SaslAnswer> {
  return new Promise((resolve, reject) => {
    // what a mechanism throws in its callback (a malformed server message) would go nowhere: it must fail the login
    const authenticate = ((_connection: unknown, bytes: Buffer, tell: (e: Error | null, answer?: SaslAnswer) => void): void => {
      exchange(bytes)
        .then(
          (answer) => tell(null, answer),
          (e: unknown) => tell(e as Error),
        )
        .catch(reject)
    }) as unknown as typeof saslAuthenticateV2.api
    const none = null as unknown as LibraryConnection // handed through to `authenticate`, which has no use for it
    const done = (e: Error | null, answer?: SaslAnswer): void => (answer && !e ? resolve(answer) : reject(e ?? new Error('no answer')))
    if (o.mechanism === 'OAUTHBEARER') saslOAuthBearer.authenticate(authenticate, none, o.token, { ...o.extensions }, done)
    else if (o.mechanism === 'PLAIN') saslPlain.authenticate(authenticate, none, o.username, o.password, done)
    else {
      const algorithm = o.mechanism === 'SCRAM-SHA-256' ? 'SHA-256' : 'SHA-512'
      saslScramSha.authenticate(authenticate, none, algorithm, o.username, o.password, saslScramSha.defaultCrypto, done)
    }
  })
}
