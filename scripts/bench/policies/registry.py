"""Which scheduling rules can be compared, and under what name?"""

from __future__ import annotations

from scripts.bench.policies.dynamo_drr import DynamoDrr
from scripts.bench.policies.edf import Edf
from scripts.bench.policies.fifo import Fifo
from scripts.bench.policies.interface import MakePolicy
from scripts.bench.policies.litellm import LiteLlm
from scripts.bench.policies.llmd import LlmD
from scripts.bench.policies.qoserve import QoServe
from scripts.bench.policies.qosqueue import QosqueuePolicy
from scripts.bench.policies.qosqueue_redis import on_redis
from scripts.bench.policies.smg import Smg
from scripts.bench.policies.strict import Strict
from scripts.bench.policies.vllm_priority import VllmPriority
from scripts.bench.policies.vtc import Vtc

POLICIES: dict[str, MakePolicy] = {
    "qosqueue": QosqueuePolicy,
    "qosqueue-redis": on_redis,
    "fifo": Fifo,
    "strict": Strict,
    "edf": Edf,
    "vtc": Vtc,
    "qoserve": QoServe,
    "llmd": LlmD,
    "dynamo-drr": DynamoDrr,
    "smg": Smg,
    "vllm-priority": VllmPriority,
    "litellm": LiteLlm,
}
