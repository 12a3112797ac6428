"""GPTCache's adapter of OpenAI's client: a miss, hits, a stream; killed."""

import tempfile

import openai
import spendfuse
from gptcache import Config, cache
from gptcache.adapter import openai as cached
from gptcache.manager import get_data_manager
from gptcache.processor.pre import last_content
from provider import MARKER, Provider
from session import command, ready, say
from spendfuse.gptcache import guarded

provider = Provider()
openai.api_base, openai.api_key = f"{provider.url}/v1", "none"
folder = tempfile.mkdtemp(prefix="gptcache-")
cache.init(
    pre_embedding_func=last_content, data_manager=get_data_manager(data_path=f"{folder}/map"),
    config=Config(enable_token_counter=False),
)  # fmt: skip
connection = ready()
create = guarded(cached.ChatCompletion.create)


def ask(words: str = MARKER, **more: object) -> object:
    return create(model="gpt-5", messages=[{"role": "user", "content": words}], **more)


with spendfuse.run(run_id="ways"):
    answers = [ask(), ask()]
    list(ask(stream=True))
say(hits=[bool(answer.get("gptcache")) for answer in answers], ids=provider.ids[:])
stopped = []
with spendfuse.run(run_id="killed"):
    command("kill", "killed")
    before = len(provider.asked)
    for words in (MARKER, f"{MARKER} again"):
        try:
            ask(words)
        except spendfuse.Stopped as reason:
            stopped.append(reason.reason)
say(stopped=stopped, asked_after=len(provider.asked) - before)
assert connection.close() == 0
