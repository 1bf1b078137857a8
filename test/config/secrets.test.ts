import { describe, expect, test } from 'vitest'
import { configOf, errorsOf, pipeline } from './support.ts'

const HUNTER = 'hunter2-hunter2'

describe('references', () => {
  test('stand for the text of a variable or a file, whole or in part', async () => {
    const yaml = pipeline('', '{type: s3, bucket: "${env:B}-x", salt: "${file:salt.txt}", prefix: "${file:/run/p}/$${env:B}/"}')
    const c = await configOf(yaml, { env: { B: 'lake' }, files: { '/etc/hydrant/salt.txt': 'abc\n', '/run/p': 'x\n\n' } })
    expect(c.pipelines[0]?.sink).toMatchObject({ options: { bucket: 'lake-x', salt: 'abc' }, prefix: 'x\n/${env:B}/' })
  })
  test.each<[what: string, reference: string, message: string]>([
    ['variable', '${env:NOPE}', 'the environment variable NOPE is not set'],
    ['file', '${file:/nope}', 'the file /nope does not exist'],
    ['relative file', '${file:nope}', 'the file /etc/hydrant/nope does not exist'],
    ['large file', '${file:/large}', 'the file /large has 70000 bytes; the limit is 65536'],
    ['no text', '${file:/binary}', 'reading the file /binary: ERR_ENCODING_INVALID_ENCODED_DATA'],
    ['no scheme', '${NOPE}', 'unknown reference ${NOPE}: write ${env:NOPE}, or $${…} for the literal text'],
    ['other scheme', '${vault:x/y}', 'unknown reference ${vault:x/y}: write ${env:NAME} or ${file:/path}, or $${…} for the literal text'],
  ])('that lead nowhere: %s', async (_what, reference, message) => {
    const files = { '/large': 'x'.repeat(70_000), '/binary': new Uint8Array([0xff, 0xfe, 0xfd]) }
    expect(await errorsOf(pipeline('', `{type: file, path: "${reference}"}`), { files })).toEqual([
      `4:30 pipelines.p.sink.path: ${message}`,
    ])
  })
})

describe('a secret is never printed', () => {
  test.each<[where: string, yaml: string, line: string]>([
    ['too short', `api: {auth: sigv4, keys: [{access_key: AKIA, secret_key: hunter2}]}`, '1:58'],
    ['of a wrong type', `api: {auth: sigv4, keys: [{access_key: AKIA, secret_key: [${HUNTER}]}]}`, '1:58'],
    ['a number', `api: {auth: sigv4, keys: [{access_key: AKIA, secret_key: 20252026}]}`, '1:58'],
    ['of a plugin, marked by its schema', pipeline('', `{type: s3, bucket: b, salt: {x: ${HUNTER}}}`), '4:39'],
    ['below an unknown key', pipeline('', `{type: s3, bucket: b, secrt: ${HUNTER}}`), '4:33'],
    ['in a place of another kind', `limits: {memory: "\${env:S}"}`, '1:18'],
    ['as a part of a value', `api: {listen: "x\${env:S}"}`, '1:15'],
    ['as a discriminator', `log: {type: "\${env:S}"}`, '1:13'],
    ['from a file, as a plugin name', pipeline('', '{type: "${file:/s}"}'), '4:18'],
    ['an alias by mistake', `api: {auth: sigv4, keys: [{access_key: AKIA, secret_key: *${HUNTER}}]}`, '1:58'],
    ['an unclosed quote', `api: {keys: [{secret_key: "${HUNTER}}]}`, '1:'],
  ])('%s', async (_where, yaml, line) => {
    const errors = await errorsOf(yaml, { env: { S: HUNTER }, files: { '/s': HUNTER } })
    expect(errors.length).toBeGreaterThan(0)
    expect(errors[0]).toMatch(new RegExp(`^${line}`))
    expect(errors.join('\n')).not.toMatch(/hunter2|20252026/)
  })
})
