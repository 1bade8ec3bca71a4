"""isotrace"""
