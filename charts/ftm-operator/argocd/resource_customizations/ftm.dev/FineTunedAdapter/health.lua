-- Health of a FineTunedAdapter, as kstatus reads its status:
-- https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
-- A status of an older generation, or none yet, is no reason to call the resource healthy.
local function health(status, message)
  return {status = status, message = message}
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "the resource is being deleted")
end

local status = obj.status or {}
if status.observedGeneration == nil or status.observedGeneration ~= (obj.metadata.generation or status.observedGeneration) then
  return health("Progressing", "the operator has not seen this generation of the spec yet")
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function is_true(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end

local function said(condition)
  if condition.message ~= nil and condition.message ~= "" then
    return condition.message
  end
  return condition.reason
end

if is_true("Reconciling") then
  return health("Progressing", said(conditions.Reconciling))
end
if is_true("Stalled") then
  return health("Degraded", said(conditions.Stalled))
end
if is_true("Ready") then
  return health("Healthy", said(conditions.Ready))
end
return health("Progressing", conditions.Ready ~= nil and said(conditions.Ready) or "the operator has written no condition yet")
