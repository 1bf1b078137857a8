import { generateKeyPairSync, sign } from 'node:crypto'

/** DER: tag, length, contents. */
function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts)
  const n = body.length
  const length = n < 128 ? [n] : n < 256 ? [0x81, n] : [0x82, n >> 8, n & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}
const SEQUENCE = 0x30
const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'))
const ECDSA_SHA256 = der(SEQUENCE, oid('2a8648ce3d040302'))

/** A self-signed certificate for localhost and 127.0.0.1, good from 2020 to the end of 2049 or of `until`, made without any tool. PEM. */
export function selfSigned(name = 'localhost', until: 49 | 25 = 49): { cert: Buffer; key: Buffer } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const time = (text: string): Buffer => der(0x17, Buffer.from(text))
  const who = der(SEQUENCE, der(0x31, der(SEQUENCE, oid('550403'), der(0x0c, Buffer.from(name)))))
  const names = der(SEQUENCE, der(0x82, Buffer.from(name)), der(0x87, Buffer.from([127, 0, 0, 1])))
  const body = der(
    SEQUENCE,
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    ECDSA_SHA256,
    who,
    der(SEQUENCE, time('200101000000Z'), time(`${until}1231235959Z`)),
    who,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, der(SEQUENCE, der(SEQUENCE, oid('551d11'), der(0x04, names)))),
  )
  const cert = der(SEQUENCE, body, ECDSA_SHA256, der(0x03, Buffer.from([0]), sign('sha256', body, privateKey)))
  const lines = cert.toString('base64').replace(/.{64}(?!$)/g, '$&\n')
  return {
    cert: Buffer.from(`-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`),
    key: Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' })),
  }
}
