"""The record in SQL: tenants, tiers, keys, users, models, jobs and the audit trail."""
