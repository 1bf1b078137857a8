import { folderRefusal } from '../../format/folder.ts'
import { checkPrefixes, PrefixError, type ParsedPrefix } from '../../format/prefix.ts'
import { isTimeZone } from '../../format/timezone.ts'
import { errorKind, errorMessage } from '../../sdk/errors.ts'
import { ApiError, invalidArgument } from '../errors.ts'
import type { JsonRecord } from '../json/parse.ts'
import type { FirehoseContext } from './context.ts'
import { bucketName, child, kmsKeyOf, processorsOf, str, type Processor } from './document.ts'

/** What a stream cannot do here yet: said, never taken and then ignored. */
export const notSupported = (what: string): ApiError => invalidArgument(`${what} is not supported by this server yet.`)

type Stores = Pick<FirehoseContext, 'kms' | 'folder'>

/**
 * What the shapes cannot say about an ExtendedS3DestinationConfiguration (firehose.md §1.7): throws InvalidArgumentException for the
 * first broken rule, in AWS's words where they are known, and for everything that could not be delivered as asked.
 */
export function checkDestination(doc: JsonRecord, c: Stores = {}): void {
  checkS3(doc, 0, c)
  checkKms(doc, c)
  checkLater(doc)
  checkProcessing(doc)
  const zone = str(doc, 'CustomTimeZone')
  if (zone && !isTimeZone(zone)) throw invalidArgument(`CustomTimeZone ${zone} is not a supported time zone.`)
  const backup = child(doc, 'S3BackupConfiguration')
  if (str(doc, 'S3BackupMode') === 'Enabled' && !backup) {
    throw invalidArgument('S3BackupConfiguration is required when S3BackupMode is Enabled.')
  }
  if (backup) {
    checkS3(backup, 60, c)
    checkKms(backup, c)
  }
}

/** Objects in a plain folder would not be encrypted, whatever the document says. */
function checkKms(doc: JsonRecord, c: Stores): void {
  if (kmsKeyOf(doc) === undefined || !c.kms) return
  const bucket = bucketName(str(doc, 'BucketARN') ?? '')
  if (c.kms(bucket)) return
  throw invalidArgument(
    `EncryptionConfiguration.KMSEncryptionConfig cannot be used: the bucket ${bucket} is not on a store that can encrypt with KMS.`,
  )
}

/** Below a folder a prefix is a path: one that leaves it would be found out when the first records are delivered. */
function checkFolder(doc: JsonRecord, c: Stores, parsed: { prefix: ParsedPrefix; errorPrefix: ParsedPrefix }): void {
  const bucket = bucketName(str(doc, 'BucketARN') ?? '')
  try {
    if (c.folder?.(bucket) !== true) return
  } catch (e) {
    if (errorKind(e) === 'config') throw invalidArgument(`BucketARN is not valid: ${errorMessage(e)}`)
    throw e
  }
  for (const [member, p] of [
    ['Prefix', parsed.prefix],
    ['ErrorOutputPrefix', parsed.errorPrefix],
  ] as const) {
    const why = str(doc, member) ? folderRefusal(p) : null
    if (why !== null) throw invalidArgument(`${member} cannot be used: the bucket ${bucket} is a folder, and ${why}.`)
  }
}

function checkS3(doc: JsonRecord, minInterval: number, c: Stores): void {
  try {
    checkFolder(doc, c, checkPrefixes(str(doc, 'Prefix') ?? '', str(doc, 'ErrorOutputPrefix') ?? ''))
  } catch (e) {
    if (e instanceof PrefixError) throw invalidArgument(e.awsMessage)
    throw e
  }
  const hints = child(doc, 'BufferingHints')
  if (hints && (hints['SizeInMBs'] === undefined) !== (hints['IntervalInSeconds'] === undefined)) {
    throw invalidArgument('BufferingHints must have values for both SizeInMBs and IntervalInSeconds.')
  }
  if (hints && Number(hints['IntervalInSeconds'] ?? 300) < minInterval) {
    throw invalidArgument(`BufferingHints.IntervalInSeconds of an S3 backup must be at least ${minInterval}.`)
  }
  const encryption = child(doc, 'EncryptionConfiguration')
  if (encryption && Object.keys(encryption).length !== 1) {
    throw invalidArgument('EncryptionConfiguration must have exactly one of NoEncryptionConfig and KMSEncryptionConfig.')
  }
  const logging = child(doc, 'CloudWatchLoggingOptions')
  if (logging?.['Enabled'] === true && !(logging['LogGroupName'] && logging['LogStreamName'])) {
    throw invalidArgument('LogGroupName and LogStreamName are required when CloudWatch logging is enabled.')
  }
}

function checkLater(doc: JsonRecord): void {
  const conversion = child(doc, 'DataFormatConversionConfiguration')
  // omitted = true, unlike everywhere else
  if (conversion && conversion['Enabled'] !== false) throw notSupported('Record format conversion (DataFormatConversionConfiguration)')
  if (child(doc, 'DynamicPartitioningConfiguration')?.['Enabled'] === true) {
    throw notSupported('Dynamic partitioning (DynamicPartitioningConfiguration)')
  }
}

/** The parameters that each processor takes. */
const PARAMETERS: Readonly<Record<string, readonly string[]>> = {
  AppendDelimiterToRecord: ['Delimiter'],
  Decompression: ['CompressionFormat'],
  CloudWatchLogProcessing: ['DataMessageExtraction'],
}

function checkProcessing(doc: JsonRecord): void {
  if (child(doc, 'ProcessingConfiguration')?.['Enabled'] !== true) return
  const processors = processorsOf(doc)
  if (processors.length < 1 || processors.length > 5) {
    throw invalidArgument('A maximum of 5 and a minimum of 1 processor needs to be supplied when processing is enabled.')
  }
  if (processors.filter((p) => p.type === 'Lambda').length > 1) throw invalidArgument('Cannot have more than 1 Lambda processor.')
  for (const [i, p] of processors.entries()) {
    if (processors.findIndex((q) => q.type === p.type) !== i) throw invalidArgument(`Cannot have more than 1 ${p.type} processor.`)
    checkProcessor(p)
  }
  const has = (type: string): boolean => processors.some((p) => p.type === type)
  if (has('CloudWatchLogProcessing') && !has('Decompression')) {
    throw invalidArgument('CloudWatchLogProcessingProcessor can only be enabled with DecompressionProcessor')
  }
}

function checkProcessor({ type, parameters }: Processor): void {
  if (type === 'Lambda') {
    if (!parameters.has('LambdaArn')) throw invalidArgument('LambdaArn is required when Lambda processor is used.')
    throw notSupported('A Lambda processor')
  }
  if (type === 'RecordDeAggregation') checkDeaggregation(parameters)
  if (type === 'MetadataExtraction') {
    if (parameters.get('JsonParsingEngine') !== 'JQ-1.6') {
      throw invalidArgument('MetaDataExtraction JSON Parsing Engine has to be one of JQ-1.6')
    }
    throw notSupported('A MetadataExtraction processor (it needs dynamic partitioning)')
  }
  const allowed = PARAMETERS[type] ?? []
  for (const name of parameters.keys()) {
    if (!allowed.includes(name)) throw invalidArgument(`Parameter ${name} is not valid for the ${type} processor.`)
  }
  if (type === 'Decompression' && parameters.get('CompressionFormat') !== 'GZIP') {
    throw invalidArgument('CompressionFormat of the Decompression processor has to be one of GZIP')
  }
  const extraction = parameters.get('DataMessageExtraction')
  if (type === 'CloudWatchLogProcessing' && !/^(?:true|false)$/i.test(extraction ?? '')) {
    throw invalidArgument('DataMessageExtraction has to be one of true, false')
  }
}

function checkDeaggregation(parameters: ReadonlyMap<string, string>): never {
  const kind = parameters.get('SubRecordType')
  if (kind !== 'JSON' && kind !== 'DELIMITED') throw invalidArgument('SubRecordType has to be one of JSON, DELIMITED')
  if (kind === 'DELIMITED' && !parameters.get('Delimiter')) throw invalidArgument('Delimiter should be present for DELIMITED')
  throw notSupported('A RecordDeAggregation processor (it needs dynamic partitioning)')
}
