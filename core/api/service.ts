import { parseBody, type JsonRecord } from './json/parse.ts'
import type { Principal } from './principal.ts'
import type { ServiceModel } from './shapes.ts'
import { validate } from './validate.ts'

/** One authenticated call. */
export interface Call {
  readonly principal: Principal
  /** Belongs to the call: an operation may decode in place. Its memory is used again when the operation has answered. */
  readonly body: Uint8Array<ArrayBuffer>
  /** Aborts when the call has taken too long or the front door closes hard. */
  readonly signal: AbortSignal
}

/** One operation of a service: name, input shape (by the model) and handler. */
export interface Operation {
  readonly name: string
  /** The answer's JSON, as text or as bytes. Throws ApiError; anything else is answered InternalFailure. */
  run(call: Call): Promise<string | Uint8Array>
}

/** A service behind the front door; the second one is a second folder. */
export interface Service {
  readonly model: ServiceModel
  readonly operations: ReadonlyMap<string, Operation>
}

export function serviceOf(model: ServiceModel, operations: readonly Operation[]): Service {
  for (const o of operations) {
    if (!Object.hasOwn(model.operations, o.name)) throw new Error(`${model.service}: the model has no operation ${o.name}`)
  }
  return { model, operations: new Map(operations.map((o) => [o.name, o])) }
}

/** Declares an operation by its name: the input shape comes from the model, the handler sees only what passed it. */
export function declare(
  model: ServiceModel,
  name: string,
  handler: (input: JsonRecord, call: Call) => Promise<JsonRecord> | JsonRecord,
): Operation {
  const shape = model.operations[name]?.input
  if (shape === undefined) throw new Error(`${model.service}: the model has no input for ${name}`)
  return {
    name,
    async run(call) {
      return JSON.stringify(await handler(validate(model, shape, parseBody(call.body)), call))
    },
  }
}
