"""The queue's commands as plain Python: what the Lua scripts must do, step for step."""
