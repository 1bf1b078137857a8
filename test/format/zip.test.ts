import { execFileSync } from 'node:child_process'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { zipHeader, zipTrailer } from '../../core/format/zip.ts'

const name = '7f0c2f7e-6a30-4d8a-9f0e-2b6a0d9d3a61'
const GiB = 1024 ** 3

/** What python's zipfile reads in the directory of an archive whose data is a hole in a sparse file. */
async function seenByPython(size: number, compressedSize: number): Promise<unknown> {
  const folder = await mkdtemp(join(tmpdir(), 'hydrant-zip-'))
  try {
    const file = join(folder, 'a.zip')
    const handle = await open(file, 'wx')
    const header = zipHeader(name)
    await handle.write(header, 0, header.length, 0)
    const trailer = zipTrailer({ name, crc: 0xdeadbeef, size, compressedSize })
    await handle.write(trailer, 0, trailer.length, header.length + compressedSize)
    await handle.close()
    const code = `
import json, sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
[i] = z.infolist()
z.open(i).close()
print(json.dumps([i.filename, i.CRC, i.file_size, i.compress_size, i.extract_version, i.external_attr >> 16, i.header_offset]))
`
    return JSON.parse(execFileSync('python3', ['-c', code, file], { encoding: 'utf8' }))
  } finally {
    await rm(folder, { recursive: true })
  }
}

test.each([
  ['small', 1000, 100, 20],
  ['both sizes past 4 GiB', 9 * GiB, 5 * GiB, 45],
  ['only the uncompressed size past 4 GiB', 5 * GiB, 1000, 45],
  ['exactly the last 32-bit number, which means "see zip64"', 0xffff_ffff, 1000, 45],
  ['sizes below, but the directory lies past 4 GiB', 0xffff_fffe, 0xffff_fffe, 45],
])('an independent reader finds the entry: %s', async (_name, size, compressedSize, version) => {
  expect(await seenByPython(size, compressedSize)).toEqual([name, 0xdeadbeef, size, compressedSize, version, 0o100644, 0])
})
