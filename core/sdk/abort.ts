/**
 * The same items; rejects with the signal's reason as soon as it aborts, also while the source hangs. The source is told to stop
 * (`return`), and waited for unless the signal aborted.
 */
export async function* untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void, undefined> {
  signal.throwIfAborted()
  const items = source[Symbol.asyncIterator]()
  const aborted = Promise.withResolvers<never>()
  aborted.promise.catch(() => {}) // told by the race
  const abort = (): void => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    for (;;) {
      const next = await Promise.race([items.next(), aborted.promise])
      signal.throwIfAborted()
      if (next.done === true) return
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', abort)
    const stopped = Promise.resolve(items.return?.())
    if (signal.aborted) stopped.catch(() => {})
    else await stopped
  }
}
