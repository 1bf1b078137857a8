/** Clock, random, file system and network enter through these, so that a seed can replace them. */
export interface Clock {
  /** Wall clock, ms since the epoch: for stamps only, never for intervals. */
  now(): number
  /** Monotonic ms: for intervals, deadlines, leases. */
  monotonic(): number
  /** Rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Calls once after ms; the returned function cancels. Does not keep the process alive. */
  timer(ms: number, fn: () => void): () => void
}
export interface Random {
  bytes(n: number): Uint8Array
  /** [0, 1) */
  float(): number
}
export interface FileStat {
  readonly size: number
  readonly isDirectory: boolean
  readonly mtimeMs: number
}
/** An open file; every write is at an explicit place. */
export interface FileHandle {
  write(bytes: Uint8Array, at: number): Promise<void>
  read(into: Uint8Array, at: number): Promise<number>
  sync(): Promise<void>
  close(): Promise<void>
}
/** Errors are Node's, with `code` (ENOENT, EEXIST, ENOSPC …). */
export interface FileSystem {
  open(path: string, flags: 'r' | 'wx' | 'wx+' | 'w' | 'r+'): Promise<FileHandle>
  readFile(path: string): Promise<Uint8Array>
  /** Whole file, synced. */
  writeFile(path: string, bytes: Uint8Array): Promise<void>
  link(from: string, to: string): Promise<void>
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  mkdir(path: string): Promise<void>
  /** fsync of a folder: makes created names durable. */
  syncDir(path: string): Promise<void>
  list(path: string): Promise<string[]>
  stat(path: string): Promise<FileStat | null>
  remove(path: string): Promise<void>
  statfs(path: string): Promise<{ type: number; freeBytes: number }>
}
export interface Host {
  readonly clock: Clock
  readonly random: Random
  readonly fs: FileSystem
  /** Named place in the code where a fault test may kill, throw, delay or hang. Undefined action = resolves at once. */
  failpoint(point: string): Promise<void>
}
