"""The text of a conversation is transformers', by templates of the shapes that people have; hostile ones end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import transformers

from burnish.frontends.config import LoadError
from burnish.frontends.tokenizers.chat_template import ChatTemplate
from burnish.runtime import chat_template
from burnish.runtime.chat_template import rendered
from tests import models

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

CHATML = """
{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
LLAMA3 = """
{{- bos_token }}
{%- if custom_tools is defined %}{% set tools = custom_tools %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{% endif %}
{{- "Today Date: " + (date_string if date_string is defined else "26 Jul 2024") + "\\n\\n" + system + "<|eot_id|>" }}
{%- for t in tools or [] %}{{ t | tojson(indent=4) }}{{ "\\n\\n" }}{% endfor %}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""
MISTRAL = """
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("roles must alternate user/assistant") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}
{% endif %}{% for message in messages %}
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}"""
PHI = """{% for message in messages %}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n'}}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""
ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
QWEN3 = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}{% for tool in tools %}{{ "\\n" }}{{ tool | tojson }}{% endfor %}{{ '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string
        and not(message.content.startswith('<tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and reasoning %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' ~ call.function.name ~ '", "arguments": ' }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
            {%- continue %}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""
TRAINED = """{% macro turn(m) %}{{ m.role }}: {{ m.content }}{% endmacro %}
{% for m in messages if m.content %}
    {% if m.role == 'assistant' %}
        {% generation %}
        {{ turn(m) }}{{ eos_token }}
        {% endgeneration %}
    {% else %}
        {{ turn(m) }} {# a remark #}
    {% endif %}
    {% if loop.index > 8 %}{% break %}{% endif %}
{% endfor %}
{{ dict(a=1) | tojson }}{{ dict.fromkeys(['<b>'], "it's") | tojson(sort_keys=true) }}{{ strftime_now('%Y') | length }}
{{ documents | map(attribute='title') | join(', ') if documents }}"""

TEMPLATES = {
    "ChatML": CHATML,
    "Llama 3": LLAMA3,
    "Mistral": MISTRAL,
    "Gemma": GEMMA,
    "Phi": PHI,
    "Zephyr": ZEPHYR,
    "Qwen 3": QWEN3,
    "trained": TRAINED,
}


def say(*turns: str, system: str = "") -> list[dict[str, Any]]:
    roles = ("user", "assistant") * len(turns)
    said = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return [{"role": "system", "content": system}] * bool(system) + said


TOOL = {"type": "function", "function": {"name": "sum", "description": "adds <a> & 'b'", "parameters": {}}}
CALL = {"function": {"name": "sum", "arguments": {"ä": [1, 2]}}}
THOUGHT = {"role": "assistant", "content": "4", "reasoning": "2 + 2"}
CONVERSATIONS = {
    "a question": (say("Hello <b>you</b>"), {}),
    "spaces": (say("  \n two \n", "\n\nthree  ", "日本 🙂\t"), {}),
    "a system": (say("Hi", system="Be brief.\n"), {}),
    "several turns": (say("1", "one", "2", "two", "3", system="count"), {}),
    "answered": (say("1", "one"), {"add_generation_prompt": False}),
    "thoughts in the text": (say("2+2?", "<think>\nhm\n</think>\n\n4", "why?"), {}),
    "thoughts beside it": ([*say("2+2?"), THOUGHT], {"add_generation_prompt": False}),
    "no thoughts": (say("2+2?"), {"enable_thinking": False}),
    "a date": (say("when?"), {"date_string": "1 Jan 2000"}),
    "tools": (say("add", "", "now"), {"tools": [TOOL]}),
    "a call": ([*say("add"), {"role": "assistant", "content": None, "tool_calls": [CALL]}], {}),
    "documents": (say("read"), {"documents": [{"title": "A", "text": "b"}, {"title": "C", "text": "d"}]}),
}


@pytest.fixture(scope="module")
def oracle() -> Any:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=models.byte_tokenizer(), **TOKENS)


def chat(template: str) -> ChatTemplate:
    return ChatTemplate({"default": template}, TOKENS, "model")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_texts_are_those_of_transformers(template: str, oracle: Any) -> None:
    """Or both refuse. Rendered here: the next test shows that a process of its own gives the same."""
    refused = 0
    for name, (messages, given) in CONVERSATIONS.items():
        given = {"add_generation_prompt": True, "tools": None, "documents": None} | given
        try:
            expected = oracle.apply_chat_template(messages, chat_template=template, tokenize=False, **given)
        except (jinja2.TemplateError, TypeError):
            refused += 1
            with pytest.raises((jinja2.TemplateError, TypeError)):
                chat_template.render(template, {**TOKENS, **given, "messages": messages})
            continue
        assert chat_template.render(template, {**TOKENS, **given, "messages": messages}) == expected, name
    assert refused <= 3


def test_a_template_runs_in_a_process_of_its_own(oracle: Any) -> None:
    messages = say("日本 🙂 <b>", "one", "2", system="s\ud7ff")
    for add in (True, False):
        expected = oracle.apply_chat_template(messages, chat_template=QWEN3, tokenize=False, add_generation_prompt=add)
        assert rendered(chat(QWEN3), messages, add_generation_prompt=add) == expected
    expected = oracle.apply_chat_template(messages, chat_template=LLAMA3, tokenize=False, tools=[TOOL])
    assert rendered(chat(LLAMA3), messages, tools=[TOOL], add_generation_prompt=False) == expected


REFUSED = {
    "{% if %}": "cannot be read: line 1: Expected an expression",
    "\n\n{{ x": "cannot be read: line 3: ",
    "{% do x %}": "cannot be read: line 1: Encountered unknown tag 'do'",
    "{{ nothing.at.all }}": "fails: 'nothing' is undefined",
    "{{ raise_exception('No system, please') }}": "refuses the conversation: No system, please",
    "{{ 1 / 0 }}": "fails: ZeroDivisionError",
    "{% include '/etc/passwd' %}": "fails: TypeError: no loader",
    "{{ messages.append(1) }}": "fails: .*unsafe",
    "{{ ''.__class__.__mro__ }}": "fails: access to attribute '__class__' of 'str' object is unsafe",
    "{{ cycler.__init__.__globals__.os.system('true') }}": "fails: .*unsafe",
    "{{ dict.mro() }}": "fails: ",
    "{% set n = namespace(_x=1) %}": "fails: a namespace has no '_x'",
    "{% set n = namespace() %}{% set n.__class__ = 1 %}": "fails: a namespace has no '__class__'",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "calls itself without an end",
    "{{ 'x' * 10 ** 11 }}": "needs more than 1024 MiB",
    "{{ 'x'.center(10 ** 11) }}": "needs more than 1024 MiB",
    "{% set n = namespace(x='12345678') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}": "needs more",
    "{{ 'x'.center(10 ** 8) }}": "makes 100,000,000 characters",
}


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="no limit of memory on this system")
@pytest.mark.parametrize("template", REFUSED)
def test_what_is_no_good_ends_with_one_message(template: str) -> None:
    with pytest.raises(LoadError, match=f"^model: the chat template {REFUSED[template]}") as e:
        rendered(chat(template), say("x"))
    assert len(str(e.value)) < 500


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of computing on this system")
@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        pytest.param("{{ lipsum(n=10 ** 9) }}", marks=pytest.mark.slow),
    ],
)
def test_what_does_not_end_is_ended(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "CPU", 1)
    with pytest.raises(LoadError, match=r"^model: the chat template needs more than 1 seconds or 1024 MiB$"):
        rendered(chat(template), say("x"))


def test_what_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: Any, **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(LoadError, match="needs more than 10 seconds"):
        rendered(chat(CHATML), say("x"))


def test_the_program_imports_nothing_of_ours(tmp_path: Path) -> None:
    """It is a file among others that have names of Python's own modules."""
    request = {"template": "{{ messages[0].content }}", "variables": {"messages": say("x")}}
    request["limits"] = {"cpu": 10, "memory": 1 << 30, "longest": 99}
    command = [sys.executable, "-P", "-X", "importtime", chat_template.__file__]
    ran = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(ran.stdout) == {"text": "x"}
    assert "jinja2.sandbox" in ran.stderr and "burnish.runtime" not in ran.stderr and "numpy" not in ran.stderr
