"""Write the table of settings in README.md and README.zh-CN.md from the fields of qosqueue/settings.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from qosqueue.settings import PREFIX, Settings
from scripts.generated_block import ROOT, run

NAME = "settings"
HEADINGS = {
    "README.md": ("variable", "default", "meaning"),
    "README.zh-CN.md": ("环境变量", "默认值", "含义"),
}

CHINESE = {
    "home": "状态目录：套接字、数据库、日志、pid 文件",
    "redis_url": "消息代理地址；不设则在状态目录内启动内嵌的 Valkey",
    "database_url": "SQLAlchemy 地址；不设则用状态目录内的 SQLite",
    "group": "所有 Redis 键的哈希标签",
    "host": "Web 服务监听的地址",
    "port": "Web 服务监听的端口；0 表示任选空闲端口",
    "https": "客户端经由 https 访问：会话 cookie 只通过它发送",
    "trusted_proxies": "可信的反向代理层数，采信其 X-Forwarded-For 与 -Proto",
    "web_threads": "Web 进程的线程数；每个未完成的请求占用一个",
    "lease_ms": "一次尝试不续租可持有多久（毫秒）；其间续租三次",
    "sweep_ms": "看门狗两次巡检的间隔（毫秒）",
    "stall_ms": "引擎多久没有任何动静即视为故障（毫秒）",
    "max_deliveries": "非推理请求的 Celery 任务最多尝试几次；推理请求按其画像（在线 2 次，其余 3 次）",
    "most_queued": "同一租户等级最多可排队的请求数；超出则拒绝",
    "max_body_bytes": "请求体的最大字节数",
    "files": "租户文件所在的目录；不设则为状态目录下的 `files`",
    "max_file_bytes": "接收的单个文件的最大字节数",
    "max_tenant_file_bytes": "一个租户全部文件合计的最大字节数",
    "file_days": "文件保留的天数；租户可另行指定",
    "batch_window": "同一批处理同时排队的行数",
    "webhook_private_networks": "供开发用：webhook 可发往私有地址，也可用 http",
    "default_model": "该模型有就绪副本时 `/readyz` 才为绿；`up` 打印的示例也用它",
    "order": "`fifo` 为原生 Celery 加原生 Kombu，即演示所用的基线",
    "log_level": "记录日志的最低级别",
}


def table(page: str) -> str:
    """The settings as a Markdown table in the language of `page`."""
    chinese = page == "README.zh-CN.md"
    lines = [f"| {' | '.join(HEADINGS[page])} |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        meaning = CHINESE[name] if chinese else field.description
        if not meaning:
            raise ValueError(f"the setting {name} has no meaning in words: give its field a description")
        joint = "；" if chinese else "; "
        lines.append(f"| `{PREFIX}{name.upper()}` | {_default(field)} | {joint.join([meaning, *_limits(field)])} |")
    return "\n".join(lines)


def blocks() -> dict[Path, str]:
    """The table of each page."""
    return {ROOT / page: table(page) for page in HEADINGS}


def _default(field: FieldInfo) -> str:
    return "–" if field.default is None else f"`{field.default}`"


def _limits(field: FieldInfo) -> list[str]:
    if get_origin(field.annotation) is Literal:
        return [", ".join(f"`{choice}`" for choice in get_args(field.annotation))]
    bounds: dict[str, Any] = {}
    for rule in field.metadata:
        bounds |= {name: getattr(rule, name) for name in ("ge", "le") if getattr(rule, name, None) is not None}
    if not bounds:
        return []
    return [f"{bounds.get('ge', '')}–{bounds['le']}" if "le" in bounds else f"≥ {bounds['ge']}"]


if __name__ == "__main__":
    sys.exit(run(NAME, blocks(), __doc__))
