"""moto's server, which checks signatures as Amazon does: a query is brought into its canonical form first.

moto itself compares it as it came, and so refuses `prefix=a/b`, which is signed as `prefix=a%2Fb`.
"""

import sys
from urllib.parse import parse_qsl, quote

from moto.iam import access_control
from moto.server import main

as_it_came = access_control.IAMRequestBase._create_aws_request


def canonical(request):
    path, _, query = request._path.partition("?")
    pairs = [(quote(key, "-_.~"), quote(value, "-_.~")) for key, value in parse_qsl(query, keep_blank_values=True)]
    if pairs:
        request._path = path + "?" + "&".join(f"{key}={value}" for key, value in sorted(pairs))
    return as_it_came(request)


access_control.IAMRequestBase._create_aws_request = canonical
sys.exit(main())
