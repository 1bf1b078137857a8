export { isSecret, optionsJsonSchema, optionsTable, pluginKit } from '../sdk/kit.ts'
