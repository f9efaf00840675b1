"""Serves OSS on a port:  oss.py PORT

moto's S3 behind a translator of headers: x-oss-* to x-amz-* and back, and x-oss-forbid-overwrite to If-None-Match, whose
refusal is 409 FileAlreadyExists. The signature is not checked.
"""
import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

s3 = DomainDispatcherApplication(create_backend_app)

REFUSAL = b"<Error><Code>FileAlreadyExists</Code><Message>the object is there already</Message></Error>"
SIGNED = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


def refuse(start):
    start("409 Conflict", [("Content-Type", "application/xml"), ("Content-Length", str(len(REFUSAL)))])
    return [REFUSAL]


def serve(env, start):
    query, method = env.get("QUERY_STRING", ""), env["REQUEST_METHOD"]
    forbids = env.pop("HTTP_X_OSS_FORBID_OVERWRITE", "").lower() == "true"
    for key in [key for key in env if key.startswith("HTTP_X_OSS_")]:
        env["HTTP_X_AMZ_" + key.removeprefix("HTTP_X_OSS_")] = env[key]
    env.pop("HTTP_X_AMZ_CONTENT_SHA256", None)
    if env.get("HTTP_AUTHORIZATION"):
        env["HTTP_AUTHORIZATION"] = SIGNED
    if forbids and method == "POST" and "uploads" in query:
        # OSS looks when an upload begins, too.
        found = []
        list(s3(dict(env, REQUEST_METHOD="HEAD", QUERY_STRING=""), lambda status, *_: found.append(status)))
        if found[0].startswith("200"):
            return refuse(start)
    if forbids and (method == "PUT" and "partNumber" not in query or method == "POST" and "uploadId" in query):
        env["HTTP_IF_NONE_MATCH"] = "*"
    said = []

    def begin(status, headers, error=None):
        said.append(status)
        if not (forbids and status.startswith("412")):
            names = ((name.lower().replace("x-amz-", "x-oss-"), value) for name, value in headers)
            start(status, list(names), error)

    body = list(s3(env, begin))
    return refuse(start) if forbids and said[0].startswith("412") else body


run_simple("127.0.0.1", int(sys.argv[1]), serve, threaded=True)
