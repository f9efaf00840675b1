"""Makes the bucket `backups` on a server, or prints the names of what is in it, by the clients of those who made the store:

    bucket.py make|list SCHEME ENDPOINT
"""
import json
import sys
import urllib.parse
import urllib.request

BUCKET = "backups"

# The key that every azurite has: it is in its documentation.
AZURITE = {
    "account_name": "devstoreaccount1",
    "account_key": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
}


class S3:
    def __init__(self, endpoint):
        import boto3

        keys = {"aws_access_key_id": "test:tester", "aws_secret_access_key": "testing"}
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)

    def make(self):
        self.client.create_bucket(Bucket=BUCKET)

    def names(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]


class Azblob:
    def __init__(self, endpoint):
        from azure.storage.blob import BlobServiceClient

        self.container = BlobServiceClient(endpoint, credential=AZURITE).get_container_client(BUCKET)

    def make(self):
        self.container.create_container()

    def names(self):
        return list(self.container.list_blob_names())


class Gcs:
    def __init__(self, endpoint):
        self.url = f"{endpoint}/storage/v1/b/{BUCKET}/o"

    def names(self):
        names, token = [], ""
        while True:
            with urllib.request.urlopen(f"{self.url}?pageToken={urllib.parse.quote(token)}") as answer:
                page = json.load(answer)
            names += [found["name"] for found in page.get("items", [])]
            token = page.get("nextPageToken", "")
            if not token:
                return names


what, scheme, endpoint = sys.argv[1:]
bucket = {"s3": S3, "oss": S3, "azblob": Azblob, "gs": Gcs}[scheme](endpoint)
if what == "make":
    bucket.make()
else:
    print("\n".join(bucket.names()))
