import { createHash, createHmac } from 'node:crypto'

/** SHA-256 for the signer of @smithy/signature-v4, the oracle of the tests. */
export class Sha {
  readonly #h: { update(d: Uint8Array | string): unknown; digest(): Buffer }
  constructor(secret?: Uint8Array | string) {
    this.#h = secret === undefined ? createHash('sha256') : createHmac('sha256', secret)
  }
  update(d: Uint8Array | string): void {
    this.#h.update(d)
  }
  digest(): Promise<Uint8Array> {
    return Promise.resolve(this.#h.digest())
  }
  reset(): void {}
}
