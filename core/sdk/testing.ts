/**
 * `hydrant/sdk/testing`: what a plugin's tests need. The conformance suite of object sinks is a list of named cases that
 * any runner can run (`for (const c of testSink(o)) test(c.name, c.run)`); it needs no cloud account, only a harness.
 */
export { realHost } from '../host/host.ts'
export { isSecret, optionsJsonSchema, optionsTable, pluginKit } from './kit.ts'
export * from './test-builders.ts'
export { registerSinkCases, testSink, type SinkCase, type SinkHarness, type SinkSuite } from './sink-cases.ts'
