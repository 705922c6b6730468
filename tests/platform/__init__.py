"""Tests of the operator beside the platform's own components: Traefik as the gateway."""
