/** An answer that is not a success, in AWS's form: `{"__type": code, "message": message}` with an HTTP status. */
export class ApiError extends Error {
  readonly code: string
  readonly status: number
  /** Members beside `message`, such as `code` of InvalidKMSResourceException. */
  readonly extra: Readonly<Record<string, string>> | undefined
  /** Sent as Retry-After. */
  readonly retryAfterSeconds: number | undefined
  constructor(
    code: string,
    message: string,
    o: { status?: number; extra?: Readonly<Record<string, string>>; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause })
    this.name = 'ApiError'
    this.code = code
    this.status = o.status ?? 400
    this.extra = o.extra
    this.retryAfterSeconds = o.retryAfterSeconds
  }
  /** The JSON body. AWS leaves `message` out where it says nothing. */
  body(): string {
    return JSON.stringify({ __type: this.code, ...(this.message === '' ? {} : { message: this.message }), ...this.extra })
  }
}

export const invalidArgument = (message: string): ApiError => new ApiError('InvalidArgumentException', message)
export const serialization = (message: string): ApiError => new ApiError('SerializationException', message)
export const validation = (message: string): ApiError => new ApiError('ValidationException', message)
/** AWS says nothing more than the code. */
export const unknownOperation = (): ApiError => new ApiError('UnknownOperationException', '')
export const unavailable = (message: string, cause?: unknown): ApiError =>
  new ApiError('ServiceUnavailableException', message, { status: 503, retryAfterSeconds: 1, cause })
/** The outcome is not known, or the daemon failed: never a message of the inside. */
export const internalFailure = (cause?: unknown): ApiError =>
  new ApiError('InternalFailure', 'The request processing has failed because of an unknown error, exception or failure.', {
    status: 500,
    cause,
  })
