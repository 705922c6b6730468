"""Models of a FineTunedModel's spec: every field that a user may write, with its default, bounds and rules.

The CRD, the reference page and `ftm run` all come from these models. They decide nothing: the planner fills what a
manifest leaves open.
"""
