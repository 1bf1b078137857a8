/** Preloaded (`--import`) into every Node process that is measured: answers what it has used, and samples its allocations. */
import type { Session } from 'node:inspector/promises'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getHeapStatistics } from 'node:v8'

export interface Usage {
  /** User and system time of all its threads, seconds. */
  readonly cpu: number
  /** The system's part of it. */
  readonly system: number
  readonly rss: number
  readonly peakRss: number
  /** Bytes ever allocated on the JavaScript heap. Memory of large typed arrays is outside of it. */
  readonly heapAllocated: number
}
/** One function and the heap bytes it allocated itself. */
export interface Allocator {
  readonly name: string
  readonly bytes: number
}
export type Ask = 'usage' | 'sample' | 'sampled' | 'profile' | 'profiled'
export type Answer = Usage | readonly Allocator[] | string | null

const SAMPLE_BYTES = 4096
let session: Session | null = null
/** Loaded when it is asked for: it costs memory. */
async function connected(): Promise<Session> {
  const { Session } = await import('node:inspector/promises')
  session = new Session()
  session.connect()
  return session
}

function usage(): Usage {
  const { user, system } = process.cpuUsage()
  const heapAllocated = (getHeapStatistics() as { total_allocated_bytes?: number }).total_allocated_bytes ?? NaN
  return {
    cpu: (user + system) / 1e6,
    system: system / 1e6,
    rss: process.memoryUsage.rss(),
    peakRss: process.resourceUsage().maxRSS * 1024,
    heapAllocated,
  }
}

interface SampleNode {
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
  readonly selfSize: number
  readonly children: readonly SampleNode[]
}
function allocators(head: SampleNode): Allocator[] {
  const by = new Map<string, number>()
  const visit = (n: SampleNode): void => {
    const { functionName, url, lineNumber } = n.callFrame
    const file = url.replace(/^.*\/(?=(?:core|plugins|node_modules)\/)/, '')
    const name = `${functionName || '(anonymous)'}${file === '' ? '' : ` ${file}:${lineNumber + 1}`}`
    by.set(name, (by.get(name) ?? 0) + n.selfSize)
    for (const c of n.children) visit(c)
  }
  visit(head)
  return [...by].map(([name, bytes]) => ({ name, bytes })).toSorted((a, b) => b.bytes - a.bytes)
}

async function answer(ask: Ask): Promise<Answer> {
  if (ask === 'usage') return usage()
  if (ask === 'sample') {
    await (
      await connected()
    ).post('HeapProfiler.startSampling', {
      samplingInterval: SAMPLE_BYTES,
      includeObjectsCollectedByMajorGC: true,
      includeObjectsCollectedByMinorGC: true,
    })
    return null
  }
  if (ask === 'profile') {
    const s = await connected()
    await s.post('Profiler.enable')
    await s.post('Profiler.start')
    return null
  }
  if (session === null) throw new Error(`${ask}: nothing was started`)
  if (ask === 'profiled') {
    const { profile } = await session.post('Profiler.stop')
    session.disconnect()
    const path = join(tmpdir(), `hydrant-bench-${process.pid}.cpuprofile`)
    await writeFile(path, JSON.stringify(profile))
    return path
  }
  const { profile } = await session.post('HeapProfiler.stopSampling')
  session.disconnect()
  return allocators(profile.head)
}

process.on('message', (ask: Ask) => {
  void answer(ask).then((a) => process.send?.(a))
})
// the channel must not keep a process alive that has nothing else to do
process.channel?.unref()
