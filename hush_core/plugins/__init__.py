"""Beside the stages: plugins, which register tracers and commands and may look at what is recorded and delivered.

Hooks register, or look; they never deliver. `marker` is what a plugin's author imports (`hush_core.hookimpl`); `entry`
finds what is installed; `target` imports what an entry or a tracer's name stands for; `hookspecs` has the hooks and
`host` loads plugins and calls them. The user's process imports `host`, and with it pluggy, only when it asks for a
tracer by name.
"""
