/** One shape of a service model: a type and its constraints, as botocore publishes them. */
export type Shape =
  | {
      readonly type: 'structure'
      readonly members: Readonly<Record<string, string>>
      readonly required?: readonly string[]
      /** An error: `fault` = the server's own (HTTP 5xx). */
      readonly exception?: true
      readonly fault?: true
    }
  | { readonly type: 'list'; readonly member: string; readonly min?: number; readonly max?: number }
  | { readonly type: 'map'; readonly key: string; readonly value: string; readonly min?: number; readonly max?: number }
  | {
      readonly type: 'string'
      /** Characters. */
      readonly min?: number
      readonly max?: number
      /** The whole value must match. */
      readonly pattern?: string
      /** In the order in which AWS prints them. */
      readonly enum?: readonly string[]
    }
  | { readonly type: 'blob'; readonly min?: number; readonly max?: number } // decoded bytes
  | { readonly type: 'integer' | 'long' | 'double'; readonly min?: number; readonly max?: number }
  | { readonly type: 'boolean' }
  | { readonly type: 'timestamp' }

export interface OperationShape {
  readonly input?: string
  readonly output?: string
  readonly errors: readonly string[]
}

/** A service as its model declares it; data only, see shapes.generated.ts. */
export interface ServiceModel {
  /** Before the dot of X-Amz-Target, such as `Firehose_20150804`. */
  readonly targetPrefix: string
  /** The service in a SigV4 scope and in ARNs. */
  readonly service: string
  readonly operations: Readonly<Record<string, OperationShape>>
  readonly shapes: Readonly<Record<string, Shape>>
}

/** A shape by name; a name that the model does not have is an error of the program. */
export function shapeOf(model: ServiceModel, name: string): Shape {
  const shape = model.shapes[name]
  if (!shape) throw new Error(`${model.service}: the model has no shape ${name}`)
  return shape
}
