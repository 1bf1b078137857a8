import { ControlError } from '../../pipeline/control.ts'
import { ApiError, invalidArgument } from '../errors.ts'
import type { JsonRecord } from '../json/parse.ts'
import { declare, type Call, type Operation } from '../service.ts'
import { firehose as model } from '../shapes.generated.ts'
import { controlError, refuseYaml, streamOf, text, type FirehoseContext } from './context.ts'
import { s3Member } from './create.ts'
import { currentDocument } from './describe.ts'
import { child, DESTINATION_ID, specOf, str } from './document.ts'
import { checkDestination } from './rules.ts'

/** UpdateDestination. */
export function updateOperations(c: FirehoseContext): Operation[] {
  return [declare(model, 'UpdateDestination', (input, call) => update(c, input, call))]
}

async function update(c: FirehoseContext, input: JsonRecord, call: Call): Promise<JsonRecord> {
  const info = streamOf(c, call, 'UpdateDestination', input)
  const change = s3Member(input, 'Update')
  refuseYaml(info)
  const specified = text(input, 'CurrentDeliveryStreamVersionId')
  if (specified !== info.versionId) throw versionMismatch(info.name, info.versionId, specified)
  const id = text(input, 'DestinationId')
  if (id !== DESTINATION_ID) throw invalidArgument(`Destination Id ${id} not found`)
  if (info.status !== 'ACTIVE') {
    throw new ApiError('ResourceInUseException', `Firehose ${info.name} under account ${c.account} is ${info.status}, not ACTIVE.`)
  }
  const document = mergeDestination(currentDocument(c, info), change)
  checkDestination(document, c)
  try {
    await c.streams.update(info.name, specified, { document, spec: specOf(info.name, document) })
  } catch (e) {
    const moved = e instanceof ControlError && e.code === 'version'
    throw moved ? versionMismatch(info.name, c.streams.get(info.name)?.versionId ?? '?', specified) : controlError(c, e, info.name)
  }
  return {}
}

const versionMismatch = (name: string, current: string, specified: string): ApiError =>
  new ApiError(
    'ConcurrentModificationException',
    `Cannot update firehose: ${name} since the current version id: ${current} and specified version id: ${specified} do not match`,
  )

/**
 * An ExtendedS3DestinationUpdate over the document in force (firehose.md §1.9): a member that is left out keeps its value, a member that
 * is given replaces it whole (ProcessingConfiguration too), the backup and the format conversion are merged member by member. Throws
 * for the switches that go one way only.
 */
export function mergeDestination(current: JsonRecord, change: JsonRecord): JsonRecord {
  const { S3BackupUpdate: backupChange, ...plain } = change
  if (str(current, 'S3BackupMode') === 'Enabled' && str(change, 'S3BackupMode') === 'Disabled') {
    throw invalidArgument('S3BackupMode cannot be changed from Enabled to Disabled.')
  }
  const partitioning = child(change, 'DynamicPartitioningConfiguration')
  if (partitioning?.['Enabled'] === true) throw invalidArgument('Dynamic partitioning cannot be enabled on an existing delivery stream.')
  const backup = { ...child(current, 'S3BackupConfiguration'), ...(backupChange as JsonRecord | undefined) }
  const conversion = { ...child(current, 'DataFormatConversionConfiguration'), ...child(change, 'DataFormatConversionConfiguration') }
  const merged = {
    ...current,
    ...plain,
    ...(Object.keys(backup).length > 0 ? { S3BackupConfiguration: backup } : {}),
    ...(Object.keys(conversion).length > 0 ? { DataFormatConversionConfiguration: conversion } : {}),
  }
  if (Object.keys(backup).length > 0 && !(str(backup, 'RoleARN') && str(backup, 'BucketARN'))) {
    throw invalidArgument('RoleARN and BucketARN are required in S3BackupUpdate when the delivery stream has no backup yet.')
  }
  return merged
}
