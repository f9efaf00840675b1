"""Makes a container in azurite:  container.py ACCOUNT_URL NAME"""
import sys

from azure.storage.blob import BlobServiceClient

# The key that every azurite has: it is in its documentation.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

url, name = sys.argv[1:]
account = {"account_name": "devstoreaccount1", "account_key": KEY}
BlobServiceClient(url, credential=account).create_container(name)
