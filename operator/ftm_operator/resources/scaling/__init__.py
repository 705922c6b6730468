"""Builds what scales a served model: KEDA's ScaledObject, or a HorizontalPodAutoscaler."""
