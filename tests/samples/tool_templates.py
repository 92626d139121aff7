"""Chat templates in the manner of those of models that call functions, as short as they can be."""

HERMES = """
{%- if tools %}<s>system
You may call functions, described in <tools>:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
For each call write <tool_call>
{"name": <its name>, "arguments": <its arguments>}
</tool_call>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<s>user
<tool_response>
{{ message.content }}
</tool_response>
{% else %}<s>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<s>assistant
{% endif %}"""

LLAMA = """
{%- if tools is not defined %}{% set tools = none %}{% endif %}
{%- if tools is not none %}<|start_header_id|>system<|end_header_id|>
Answer with {"name": function, "parameters": its arguments} to call one of these:
{%- for tool in tools %}
{{ tool | tojson(indent=4) }}
{%- endfor %}
{% endif %}
{%- for message in messages %}
{%- if 'tool_calls' in message %}
{%- if message.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}
{%- set call = message.tool_calls[0].function %}<|start_header_id|>assistant<|end_header_id|>
{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}
{%- elif message.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>
{{ message.content | tojson }}
{%- else %}<|start_header_id|>{{ message.role }}<|end_header_id|>
{{ message.content | trim }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}"""

MISTRAL = """
{%- if tools is not none %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for message in messages %}
{%- if message.tool_calls is defined %}[TOOL_CALLS][
{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('ids of calls have 9 letters') }}{% endif %}
{%- set function = call.function %}
{{- '{"name": "' + function.name + '", "arguments": ' + function.arguments | tojson + ', "id": "' + call.id + '"}' }}
{%- if not loop.last %}, {% endif %}
{%- endfor %}]
{%- elif message.role == 'tool' %}[TOOL_RESULTS]
{{- {'content': message.content, 'call_id': message.tool_call_id} | tojson }}[/TOOL_RESULTS]
{%- elif message.role == 'assistant' %}{{ ' ' + message.content }}
{%- else %}[INST] {{ message.content }}[/INST]
{%- endif %}
{%- endfor %}"""
