"""The demo: a small real agent, a scripted stand-in for its model, and the tour through both."""
