"""One level-triggered pass: observe, plan, apply, record."""
