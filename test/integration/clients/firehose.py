"""boto3 as anybody would use it: every Firehose operation, and records from a file (u32 big-endian length, bytes).

usage: firehose.py ENDPOINT STREAM BUCKET_ARN RECORDS_FILE; prints one JSON object, operation -> answer or error code.
"""
import json
import struct
import sys
import time

import boto3
from botocore.exceptions import ClientError

endpoint, stream, bucket, path = sys.argv[1:5]
firehose = boto3.client("firehose", endpoint_url=endpoint, region_name="us-east-1")
answers = {}


def call(name, **arguments):
    try:
        answer = getattr(firehose, name)(**arguments)
        answer.pop("ResponseMetadata", None)
    except ClientError as e:
        answer = {"error": e.response["Error"]["Code"]}
    answers.setdefault(name, []).append(answer)
    return answer


def records():
    with open(path, "rb") as f:
        while header := f.read(4):
            yield f.read(struct.unpack(">I", header)[0])


def batches(size):
    batch = []
    for r in records():
        batch.append({"Data": r})
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


s3 = {"RoleARN": "arn:aws:iam::000000000000:role/r", "BucketARN": bucket, "Prefix": "objects/",
      "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 1}, "CompressionFormat": "GZIP"}
call("create_delivery_stream", DeliveryStreamName=stream, DeliveryStreamType="DirectPut", ExtendedS3DestinationConfiguration=s3,
     Tags=[{"Key": "team", "Value": "a"}])
for _ in range(200):
    d = firehose.describe_delivery_stream(DeliveryStreamName=stream)["DeliveryStreamDescription"]
    if d["DeliveryStreamStatus"] == "ACTIVE":
        break
    time.sleep(0.05)
answers["status"] = d["DeliveryStreamStatus"]
call("list_delivery_streams", Limit=100)
call("tag_delivery_stream", DeliveryStreamName=stream, Tags=[{"Key": "env", "Value": "test"}])
call("untag_delivery_stream", DeliveryStreamName=stream, TagKeys=["team"])
call("list_tags_for_delivery_stream", DeliveryStreamName=stream)
call("start_delivery_stream_encryption", DeliveryStreamName=stream)
call("stop_delivery_stream_encryption", DeliveryStreamName=stream)
call("update_destination", DeliveryStreamName=stream, CurrentDeliveryStreamVersionId=d["VersionId"],
     DestinationId=d["Destinations"][0]["DestinationId"],
     ExtendedS3DestinationUpdate={"BufferingHints": {"SizeInMBs": 2, "IntervalInSeconds": 1}})
version = firehose.describe_delivery_stream(DeliveryStreamName=stream)["DeliveryStreamDescription"]["VersionId"]
answers["versions"] = [d["VersionId"], version]

sent = failed = 0
for i, batch in enumerate(batches(500)):
    if i == 0:
        for r in batch:
            firehose.put_record(DeliveryStreamName=stream, Record=r)
    else:
        failed += firehose.put_record_batch(DeliveryStreamName=stream, Records=batch)["FailedPutCount"]
    sent += len(batch)
answers["sent"], answers["failed"] = sent, failed

call("delete_delivery_stream", DeliveryStreamName=stream)
print(json.dumps(answers, default=str))
