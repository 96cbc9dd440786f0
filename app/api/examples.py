"""An example of each answer, by the name of its model."""

import json
from typing import Any

EXPORT: dict[str, Any] = {
    "id": "exp_01997d3c5b7d7e3f8a1b2c3d4e5f6071",
    "kind": "resource",
    "workspace": "12345",
    "status": "queued",
    "wait_reason": "behind_others",
    "priority": "normal",
    "request": {"workspace": "12345", "export_request_parameters": [{"resource_type": "task"}]},
    "labels": {"team": "bi"},
    "queue": {
        "position": 3,
        "ahead": 2,
        "eta": {
            "start_p50": "2026-01-02T03:14:05.678901Z",
            "start_p90": "2026-01-02T03:24:05.678901Z",
            "finish_p50": "2026-01-02T03:19:05.678901Z",
            "finish_p90": "2026-01-02T03:31:05.678901Z",
            "sample_size": 41,
        },
    },
    "run": {
        "id": "run_01997d3c5b7d7e3f8a1b2c3d4e5f6072",
        "attempt": 1,
        "phase": None,
        "shared": False,
        "eta": None,
        "asana_job_gid": None,
        "data_as_of": {"from": None, "to": None},
    },
    "artifact": None,
    "error": None,
    "warnings": [],
    "latency": {
        "total_ms": 1500,
        "behind_others_ms": 1500,
        "external_ms": 0,
        "backoff_ms": 0,
        "paused_ms": 0,
        "run_ms": 0,
        "archive_ms": 0,
    },
    "deliver_by": None,
    "at_risk_since": None,
    "schedule": {"id": "sch_01997d3c5b7d7e3f8a1b2c3d4e5f6078", "slot": "2026-01-02T03:00:00Z"},
    "created_by": "bi",
    "created_at": "2026-01-02T03:04:05.678901Z",
    "started_at": None,
    "finished_at": None,
    "retry_of": None,
    "version": 1,
}
PLAN: dict[str, Any] = {
    "lane": "12345",
    "status": "queued",
    "shares_run": None,
    "queue": EXPORT["queue"],
}
EVENT: dict[str, Any] = {
    "id": "evt_01997d3c5b7d7e3f8a1b2c3d4e5f6073",
    "type": "export.created",
    "actor": "client:bi",
    "request_id": "req_01997d3c5b7d7e3f8a1b2c3d4e5f6070",
    "created_at": "2026-01-02T03:04:05.678901Z",
    "data": {"status": "queued", "version": 1, "priority": "normal"},
}
FEED_EVENT: dict[str, Any] = {
    "type": "export.succeeded",
    "timestamp": "2026-01-02T03:09:12.345678Z",
    "data": {
        "id": "exp_01997d3c5b7d7e3f8a1b2c3d4e5f6071",
        "status": "succeeded",
        "version": 5,
        "links": {"export": "/v1/exports/exp_01997d3c5b7d7e3f8a1b2c3d4e5f6071"},
    },
    "id": "evt_01997d3c5b7d7e3f8a1b2c3d4e5f6078",
    "cursor": "4711",
    "workspace": "12345",
}
STREAM = f"""retry: 5000

event: export.succeeded
data: {json.dumps(FEED_EVENT, separators=(",", ":"))}
id: 4711

"""
MANIFEST: dict[str, Any] = {
    "transaction_time": "2026-01-02T03:05:06.789Z",
    "request": {"workspace": "12345", "export_request_parameters": [{"resource_type": "task"}]},
    "requires_access_token": True,
    "output": [
        {
            "type": "task",
            "url": "/v1/artifacts/art_01997d3c5b7d7e3f8a1b2c3d4e5f6076/content",
            "count": 4711,
            "bytes": 812345,
            "uncompressed_bytes": 9876543,
            "sha256": "0f343b0931126a20f133d67c2b018a3b5d0a0f3e6b1c2d4e5f60718293a4b5c6",
            "media_type": "application/gzip",
        }
    ],
    "deleted": [],
    "data_as_of": {"from": "2026-01-02T03:05:06.789Z", "to": "2026-01-02T03:09:10.111Z"},
    "totals": {"lines": 4711, "by_type": {"task": 4711}, "duplicate_gids": 0},
    "schemas": {
        "task": {
            "fingerprint": "28d1b6dc32b8a6d9b512038263fba248022c3f297993ea1cdb2224e4918797c6",
            "paths": ["assignee", "assignee.gid", "gid", "name", "resource_type"],
        }
    },
    "upstream": {"job": "1200000000000042", "export": "1200000000000043"},
    "expires_at": "2026-04-02T03:09:12.345678Z",
}
WORKSPACE: dict[str, Any] = {
    "gid": "12345",
    "name": "Example Ltd",
    "credential": "cred_01997d3c5b7d7e3f8a1b2c3d4e5f6074",
    "retention_days": None,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}
LANE: dict[str, Any] = {
    "workspace": "12345",
    "lane": "12345",
    "state": "open",
    "holder": "worker-7f9c:1",
    "slot": {
        "run": "run_01997d3c5b7d7e3f8a1b2c3d4e5f6071",
        "kind": "resource",
        "status": "running",
        "phase": "polling",
        "wait_reason": None,
        "started_at": "2026-01-02T03:01:02.345678Z",
    },
    "queued": 3,
    "oldest_queued_at": "2026-01-02T02:59:00.123456Z",
    "archiving": 1,
    "wait_reason": None,
    "waiting_since": None,
    "next_attempt_at": None,
    "refusals": 0,
}
CLIENT: dict[str, Any] = {
    "id": "cli_01997d3c5b7d7e3f8a1b2c3d4e5f6075",
    "name": "bi",
    "scopes": ["exports:write", "exports:read", "artifacts:read"],
    "grants": [
        {"workspace": "12345", "kinds": ["resource"], "highest_priority": "normal", "max_queued": None}
    ],
    "max_queued": 100,
    "max_stored_bytes": None,
    "retention_days": 30,
    "default_workspace": "12345",
    "created_at": "2026-01-01T00:00:00Z",
    "last_used_at": "2026-01-02T03:04:05.678901Z",
    "revoked_at": None,
}
CREDENTIAL: dict[str, Any] = {
    "id": "cred_01997d3c5b7d7e3f8a1b2c3d4e5f6074",
    "name": "service account of Example Ltd",
    "state": "valid",
    "invalid_since": None,
    "asana_user_gid": "1200000000000001",
    "asana_user_name": "Exports",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}
ATTENTION: dict[str, Any] = {
    "id": "exports-failed.12345.upstream-failed",
    "kind": "exports-failed",
    "workspace": "12345",
    "cause": "upstream-failed",
    "since": "2026-01-01T10:00:00Z",
    "latest": "2026-01-02T03:04:05.678901Z",
    "count": 7,
    "acknowledged": None,
}
CONVERSION: dict[str, Any] = {
    "artifact": "art_01997d3c5b7d7e3f8a1b2c3d4e5f6076",
    "format": "parquet",
    "state": "ready",
    "error": None,
    "files": [
        {
            "id": "out_01997d3c5b7d7e3f8a1b2c3d4e5f6077",
            "resource_type": "task",
            "url": "/v1/artifacts/art_01997d3c5b7d7e3f8a1b2c3d4e5f6076/outputs/parquet/"
            "out_01997d3c5b7d7e3f8a1b2c3d4e5f6077/content",
            "media_type": "application/vnd.apache.parquet",
            "bytes": 123456,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "rows": 4711,
            "columns": [
                {"name": "gid", "type": "text"},
                {"name": "created_at", "type": "timestamp"},
                {"name": "custom_fields", "type": "list"},
            ],
        }
    ],
    "requested_at": "2026-01-02T03:04:05.678901Z",
    "finished_at": "2026-01-02T03:04:35.678901Z",
}
REFETCH: dict[str, Any] = {
    "artifact": "art_01997d3c5b7d7e3f8a1b2c3d4e5f6076",
    "state": "pending",
    "error": None,
    "requested_at": "2026-01-02T03:04:05.678901Z",
    "finished_at": None,
}
SCHEDULE: dict[str, Any] = {
    "id": "sch_01997d3c5b7d7e3f8a1b2c3d4e5f6078",
    "name": "changed tasks",
    "cron": "0 3 * * *",
    "timezone": "Europe/Berlin",
    "jitter": 300,
    "catch_up": "latest",
    "export": {
        "workspace": "12345",
        "export_request_parameters": [
            {
                "resource_type": "task",
                "filters": {"modified_at.after": {"since": "last_success", "overlap": "15m"}},
            }
        ],
        "priority": "normal",
        "labels": {"team": "bi"},
        "max_age": 0,
        "deliver_within": 7200,
    },
    "watermark": "2026-01-01T02:03:04.567Z",
    "next_slot": "2026-01-02T02:00:00Z",
    "next_at": "2026-01-02T02:03:17Z",
    "put_off": None,
    "last_export": "exp_01997d3c5b7d7e3f8a1b2c3d4e5f6071",
    "skips": 0,
    "skip_reason": None,
    "paused_at": None,
    "created_by": "bi",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}
ENDPOINT: dict[str, Any] = {
    "id": "whe_01997d3c5b7d7e3f8a1b2c3d4e5f6078",
    "url": "https://hooks.example.com/asana-exports",
    "description": "loads what has succeeded",
    "types": ["export.succeeded", "export.failed"],
    "workspaces": ["12345"],
    "disabled": False,
    "disabled_at": None,
    "disabled_because": None,
    "failing_since": None,
    "previous_secret_until": None,
    "created_at": "2026-01-02T03:04:05.678901Z",
    "updated_at": "2026-01-02T03:04:05.678901Z",
}
DELIVERY: dict[str, Any] = {
    "id": "evt_01997d3c5b7d7e3f8a1b2c3d4e5f6073",
    "type": "export.succeeded",
    "state": "delivered",
    "next_try_at": None,
    "attempts": [
        {"at": "2026-01-02T03:04:05.701234Z", "status": 503, "error": None, "duration_ms": 21},
        {"at": "2026-01-02T03:04:10.812345Z", "status": 204, "error": None, "duration_ms": 48},
    ],
    "created_at": "2026-01-02T03:04:05.678901Z",
    "finished_at": "2026-01-02T03:04:10.812345Z",
}
JOB: dict[str, Any] = {
    "gid": "6917529027641081856",
    "resource_type": "job",
    "resource_subtype": "graph_export_request",
    "status": "succeeded",
    "new_graph_export": {
        "gid": "6917529027641081857",
        "resource_type": "graph_export",
        "created_at": "2026-01-02T03:05:06.789Z",
        "completed_at": "2026-01-02T03:09:10.111Z",
        "download_url": "https://exports.example/api/1.0/jobs/6917529027641081856/content?signature=gAAAAAB…",
    },
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "JobAnswer": {"data": JOB},
    "Alive": {"status": "ok"},
    "Readiness": {"ready": True, "stopping": False, "database": True, "migrations": True, "workers": 2},
    "ExportOut": EXPORT,
    "ExportPage": {"items": [EXPORT], "next_page_token": "01997d3c5b7d7e3f8a1b2c3d4e5f6071"},
    "PlanOut": PLAN,
    "ManifestOut": MANIFEST,
    "JwkSetOut": {
        "keys": [
            {
                "kid": "kPrK_qmxVWaYVwa9wwBF6Iuo3vVzz7TxHCTwXBygrS4",
                "kty": "OKP",
                "crv": "Ed25519",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                "use": "sig",
                "alg": "Ed25519",
            }
        ]
    },
    "Timeline": {"items": [EVENT]},
    "EventPage": {"items": [FEED_EVENT], "cursor": "4711", "has_more": False},
    "ConversionOut": CONVERSION,
    "ConversionList": {"items": [CONVERSION]},
    "RefetchOut": REFETCH,
    "ScheduleOut": SCHEDULE,
    "ScheduleList": {"items": [SCHEDULE]},
    "PreviewOut": {
        "items": [
            {
                "slot": "2026-01-02T02:00:00Z",
                "local": "2026-01-02T03:00:00+01:00",
                "fires_at": "2026-01-02T02:03:17Z",
            }
        ]
    },
    "WorkspaceOut": WORKSPACE,
    "WorkspaceList": {"items": [WORKSPACE]},
    "LaneOut": LANE,
    "ClientOut": CLIENT,
    "ClientWithKey": CLIENT | {"key": "aex_01997d3c5b7d7e3f8a1b2c3d4e5f6075_made-of-43-random-characters"},
    "ClientList": {"items": [CLIENT]},
    "CredentialOut": CREDENTIAL,
    "CredentialList": {"items": [CREDENTIAL]},
    "WebhookEndpointOut": ENDPOINT,
    "WebhookEndpointWithSecret": ENDPOINT | {"secret": "whsec_made-of-44-random-characters"},
    "WebhookEndpointList": {"items": [ENDPOINT]},
    "DeliveryOut": DELIVERY,
    "DeliveryPage": {"items": [DELIVERY], "next_page_token": "01997d3c5b7d7e3f8a1b2c3d4e5f6073"},
    "ReplayOut": {"deliveries": 42, "more_since": None},
    "AttentionOut": ATTENTION,
    "AttentionList": {"items": [ATTENTION]},
}
