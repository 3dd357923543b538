# The runtime methods of Application Request Routing, over lines of JSON: what appcmd cannot do.
# It is fixed text. All data comes as JSON on stdin, one request a line, and goes as JSON to stdout, one answer a line, ASCII only.
# First it writes {"ready":1}, or {"ready":0,"error":"..."} and ends. It ends when stdin does.
#   {"id":1,"call":"read","farm":"F","pool":"P"}      -> {"id":1,"ok":true,"servers":[...],"workers":[...],"tick":ms,"algorithm":"..."}
#   {"id":2,"call":"setState","farm":"F","server":"A","state":"Start|Drain|GracefulStop|ForcefulStop"}      -> {"id":2,"ok":true}
#   {"id":3,"call":"setHealthy|setUnhealthy","farm":"F","server":"A"}                                       -> {"id":3,"ok":true}
#   what goes wrong                                   -> {"id":n,"ok":false,"error":"text","hresult":n}
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Write-Line($value) {
  $json = ConvertTo-Json -InputObject $value -Compress -Depth 5
  $json = [regex]::Replace($json, '[^\x20-\x7e]', { param($m) '\u{0:x4}' -f [int][char]$m.Value })
  [Console]::Out.Write($json + "`n")
  [Console]::Out.Flush()
}

function Find-Element($collection, $attribute, $value, $what) {
  foreach ($e in $collection) {
    if ([string]$e.GetAttributeValue($attribute) -eq $value) { return $e }
  }
  throw ('there is no such ' + $what)
}

function Get-Farm($manager, $name) {
  $all = $manager.GetApplicationHostConfiguration().GetSection('webFarms').GetCollection()
  Find-Element $all 'name' $name 'web farm'
}

# The name of an enumerated value, by the schema of the machine; sources number the states in two ways.
function Get-ValueName($attribute) {
  try { [string]$attribute.Schema.GetEnumValues().GetName([int64]$attribute.Value) } catch { '' }
}

# A counter that older releases lack.
function Get-Counter($counters, $name) {
  try { [int64]$counters.GetAttributeValue($name) } catch { 0 }
}

function Read-Server($server) {
  $routing = $server.GetChildElement('applicationRequestRouting')
  $c = $routing.GetChildElement('counters')
  $state = $c.GetAttribute('state')
  @{
    address = [string]$server.GetAttributeValue('address')
    enabled = [bool]$server.GetAttributeValue('enabled')
    weight = [int64]$routing.GetAttributeValue('weight')
    state = [int]$state.Value
    stateName = Get-ValueName $state
    healthy = [bool]$c.GetAttributeValue('isHealthy')
    current = [int64]$c.GetAttributeValue('currentRequests')
    total = [int64]$c.GetAttributeValue('totalRequests')
    failed = [int64]$c.GetAttributeValue('failedRequests')
    sockets = Get-Counter $c 'currentWebSocketRequests'
    reset = [int64]$c.GetAttributeValue('lastResetTickCount')
  }
}

function Read-Farm($farmName, $poolName) {
  $manager = New-Object Microsoft.Web.Administration.ServerManager
  try {
    # First the processes, then the counters: one that takes over in between is new to whoever reads the next time.
    $workers = @(foreach ($w in $manager.WorkerProcesses) {
      if ([string]$w.AppPoolName -eq $poolName) { @{ pid = [int]$w.ProcessId; state = [string]$w.State } }
    })
    $farm = Get-Farm $manager $farmName
    $servers = @(foreach ($s in $farm.GetCollection()) { Read-Server $s })
    $balancing = $farm.GetChildElement('applicationRequestRouting').GetChildElement('loadBalancing')
    $algorithm = Get-ValueName $balancing.GetAttribute('algorithm')
    @{ servers = $servers; workers = $workers; algorithm = $algorithm; tick = [int64][Environment]::TickCount }
  } finally { $manager.Dispose() }
}

function Invoke-Method($farmName, $address, $method, $state) {
  $manager = New-Object Microsoft.Web.Administration.ServerManager
  try {
    $server = Find-Element (Get-Farm $manager $farmName).GetCollection() 'address' $address 'server'
    $call = $server.GetChildElement('applicationRequestRouting').Methods[$method].CreateInstance()
    if ($state) { $call.Input.SetAttributeValue('newState', $state) }
    [void]$call.Execute()
  } finally { $manager.Dispose() }
  @{}
}

function Set-State($farmName, $address, $state) {
  if ('Start', 'Drain', 'GracefulStop', 'ForcefulStop' -cnotcontains $state) { throw 'there is no such state' }
  Invoke-Method $farmName $address 'SetState' $state
}

try {
  [void][Reflection.Assembly]::LoadFrom((Join-Path $env:windir 'System32\inetsrv\Microsoft.Web.Administration.dll'))
  Write-Line @{ ready = 1 }
} catch {
  Write-Line @{ ready = 0; error = [string]$_.Exception.Message }
  exit 3
}
while ($null -ne ($line = [Console]::In.ReadLine())) {
  $id = 0
  try {
    $q = ConvertFrom-Json -InputObject $line
    $id = [int64]$q.id
    $answer = switch -CaseSensitive ([string]$q.call) {
      'read' { Read-Farm ([string]$q.farm) ([string]$q.pool) }
      'setState' { Set-State ([string]$q.farm) ([string]$q.server) ([string]$q.state) }
      'setHealthy' { Invoke-Method ([string]$q.farm) ([string]$q.server) 'SetHealthy' '' }
      'setUnhealthy' { Invoke-Method ([string]$q.farm) ([string]$q.server) 'SetUnhealthy' '' }
      default { throw 'there is no such call' }
    }
    $answer.id = $id
    $answer.ok = $true
    Write-Line $answer
  } catch {
    $e = $_.Exception
    while ($e.InnerException) { $e = $e.InnerException }
    Write-Line @{ id = $id; ok = $false; error = [string]$e.Message; hresult = [int64]$e.HResult }
  }
}
