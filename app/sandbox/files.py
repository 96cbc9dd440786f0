"""Download URLs that expire, and the files behind them, the way S3 serves them."""

import hashlib
import hmac
from itertools import count
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from app.sandbox.clock import timestamp
from app.sandbox.exchange import AsanaRoute, fault_of, sandbox_of
from app.sandbox.faults import FaultKind
from app.sandbox.jobs import Job

router = APIRouter(route_class=AsanaRoute, tags=["Files"])

DAMAGES = {FaultKind.TRUNCATE_FILE, FaultKind.BITFLIP, FaultKind.NOT_JSON_LINES}
_minted = count(1)


def mint(request: Request, job: Job, *, expired: bool = False) -> str:
    """A download URL that no other request has been given."""
    sandbox = sandbox_of(request)
    expires = sandbox.now() + (-1 if expired else sandbox.settings.url_lifetime)
    query = {"expires": f"{expires:.3f}", "serial": str(next(_minted))}
    query["signature"] = _signature(sandbox.secret, job.gid, query["expires"], query["serial"])
    base = sandbox.settings.public_url or str(request.base_url)
    return f"{base.rstrip('/')}/files/{job.gid}?{urlencode(query)}"


@router.get("/files/{gid}", name="file")
async def get_file(request: Request, gid: str) -> Response:
    """The file of a job, whole or in ranges. The URL is the permission: a token has no place here."""
    sandbox, query, fault = sandbox_of(request), request.query_params, fault_of(request)
    if "authorization" in request.headers:
        return _refused(400, "InvalidArgument", "Only one auth mechanism allowed")
    expires, serial = query.get("expires", ""), query.get("serial", "")
    signature = _signature(sandbox.secret, gid, expires, serial)
    if not hmac.compare_digest(signature.encode(), query.get("signature", "").encode()):
        return _refused(
            403, "SignatureDoesNotMatch", "The request signature does not match the one provided."
        )
    if float(expires) <= sandbox.now() or (fault and fault.kind is FaultKind.EXPIRE_URL):
        times = {"Expires": timestamp(float(expires)), "ServerTime": timestamp(sandbox.now())}
        return _refused(403, "AccessDenied", "Request has expired", **times)
    job = sandbox.jobs.get(gid)
    if job is None or not sandbox.has_file(job):
        return _refused(404, "NoSuchKey", "The specified key does not exist.", Key=gid)
    file = await sandbox.spool.begin(job.export.gid, job.export.recipe, sandbox.settings.spool_files)
    if fault and fault.kind in DAMAGES:
        file = await sandbox.spool.damaged(file, fault)
    return FileResponse(file.path, headers={"ETag": file.etag}, media_type="application/gzip")


def _signature(secret: bytes, gid: str, expires: str, serial: str) -> str:
    return hmac.new(secret, f"{gid}:{expires}:{serial}".encode(), hashlib.sha256).hexdigest()


def _refused(status: int, code: str, message: str, **more: str) -> Response:
    parts = {"Code": code, "Message": message, **more}
    inside = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inside}</Error>'
    return Response(body, status, media_type="application/xml")
