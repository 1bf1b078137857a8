/** Apache Kafka's own jars from Maven Central, each version by the digest of all its jars; and the certificates of its TLS listeners. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cached, MissingServiceError } from './cache.ts'

const run = promisify(execFile)
const INSTALL_MS = 10 * 60_000
const JAVA = 17
const COPY = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies'

/** SHA-256 of the list `<SHA-256 of a jar> <its name>`, a line each, in the order of the names. */
const KAFKAS = {
  /** The next-generation group protocol (KIP-848). */
  '4.1.1': 'd5c1930e48753244297231b091009a68c154efb85e45144333d4e42d57e10fb3',
  /** The last line before 4.0: classic groups only. */
  '3.9.1': '0b2c152738637d48a672c443dfac700e20e6c542baa40d9566d7523b7d2efd59',
} as const
export type KafkaVersion = keyof typeof KAFKAS
export const kafkaVersions = Object.keys(KAFKAS) as KafkaVersion[]

/** Folder of the jars, fetched by Maven when missing. Throws MissingServiceError. */
export async function installKafka(version: KafkaVersion): Promise<string> {
  const name = `Kafka ${version}`
  await needJava(name)
  const folder = await cached(`kafka-${version}`, join('libs', `kafka_2.13-${version}.jar`), async (scratch) => {
    await writeFile(join(scratch, 'pom.xml'), pom(version))
    const args = ['-q', '-B', COPY, '-DincludeScope=runtime', '-DoutputDirectory=libs']
    await called(name, 'mvn', args, 'its jars are fetched by Maven', { cwd: scratch, timeout: INSTALL_MS })
    const found = await digest(join(scratch, 'libs'))
    if (found !== KAFKAS[version]) throw new Error(`installing ${name}: the digest of its jars is ${found}, not ${KAFKAS[version]}`)
  })
  return join(folder, 'libs')
}

async function needJava(name: string): Promise<void> {
  const said = await called(name, 'java', ['-version'], 'it runs on Java', {})
  const [, version] = /version "(\d+)/.exec(said) ?? []
  if (Number(version) < JAVA) throw new MissingServiceError(name, `it runs on Java ${JAVA} or newer, and this one is ${version}`)
}

/** What the program printed. */
async function called(
  name: string,
  program: string,
  args: readonly string[],
  why: string,
  o: { cwd?: string; timeout?: number },
): Promise<string> {
  try {
    const { stdout, stderr } = await run(program, args, o)
    return stdout + stderr
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') throw new MissingServiceError(name, `${why}, and there is no ${program}`)
    const { stdout, stderr } = e as { stdout?: string; stderr?: string }
    throw new MissingServiceError(name, `${program} said: ${stderr || stdout || String(e)}`)
  }
}

async function digest(folder: string): Promise<string> {
  const all = createHash('sha256')
  for (const jar of (await readdir(folder)).toSorted()) {
    const one = createHash('sha256').update(await readFile(join(folder, jar)))
    all.update(`${one.digest('hex')} ${jar}\n`)
  }
  return all.digest('hex')
}

const one = (group: string, artifact: string, version: string): string =>
  `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`

function pom(version: KafkaVersion): string {
  return `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>test</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>
${one('org.apache.kafka', 'kafka_2.13', version)}
${one('org.apache.kafka', 'kafka-tools', version)}
${one('org.slf4j', 'slf4j-simple', '1.7.36')}
</dependencies></project>
`
}

const openssl = (...args: readonly string[]): Promise<string> => called('TLS', 'openssl', args, 'its certificates are made by openssl', {})

/** PEM. The broker's certificate is for 127.0.0.1; `stranger` is signed by an authority that the brokers do not know. */
export interface Certificates {
  readonly ca: string
  readonly broker: { readonly cert: string; readonly key: string }
  readonly client: { readonly cert: string; readonly key: string }
  readonly stranger: { readonly ca: string; readonly cert: string; readonly key: string }
}

/** Made by openssl. Throws MissingServiceError without it. */
export async function makeCertificates(): Promise<Certificates> {
  const folder = await mkdtemp(join(tmpdir(), 'hydrant-certificates-'))
  const at = (name: string): string => join(folder, name)
  const text = (name: string): Promise<string> => readFile(at(name), 'utf8')
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const authority = (name: string): Promise<string> =>
    openssl('req', '-x509', ...key, '-days', '2', '-subj', `/CN=${name}`, '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`))
  const signed = async (name: string, ca: string): Promise<{ cert: string; key: string }> => {
    await openssl('req', ...key, '-subj', `/CN=${name}`, '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`))
    const by = ['-CA', at(`${ca}.pem`), '-CAkey', at(`${ca}.key`), '-CAcreateserial', '-extfile', at('names')]
    await openssl('x509', '-req', '-in', at(`${name}.csr`), ...by, '-days', '2', '-out', at(`${name}.pem`))
    return { cert: await text(`${name}.pem`), key: await text(`${name}.key`) }
  }
  try {
    await writeFile(at('names'), 'subjectAltName=IP:127.0.0.1')
    await authority('ca')
    await authority('other-ca')
    return {
      ca: await text('ca.pem'),
      broker: await signed('broker', 'ca'),
      client: await signed('client', 'ca'),
      stranger: { ca: await text('other-ca.pem'), ...(await signed('stranger', 'other-ca')) },
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
