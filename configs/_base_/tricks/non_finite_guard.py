# Stops before the step in which a loss is NaN or infinite, names it, and saves the state; with
# action='skip' it leaves that batch out. A config that lists custom_hooks itself adds this one.
custom_hooks = [dict(type='NonFiniteGuardHook', action='stop')]
