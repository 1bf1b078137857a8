/** What node:http costs by itself: reads a request, answers 200 with a body as long as PutRecord's. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

const body = JSON.stringify({ RecordId: 'A'.repeat(220), Encrypted: false })
const headers = { 'Content-Type': 'application/x-amz-json-1.1', 'Content-Length': body.length }
const server = createServer((req, res) => {
  req.on('data', () => {})
  req.on('end', () => res.writeHead(200, headers).end(body))
})
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }))
