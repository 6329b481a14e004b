# What people build of Terraform's AWS provider on this cloud; tests/doors/test_aws_terraform.py applies, changes and ends it.

terraform {
  required_providers { aws = { source = "hashicorp/aws" } }
}
variable "url" {}
variable "visibility_s" { default = 40 }
variable "type" { default = "t3.nano" }
variable "priority" { default = 10 }
variable "batch" { default = 5 }
variable "most" { default = 2 }
variable "target" { default = 60 }
provider "aws" {
  region                  = "us-east-1"
  access_key              = "000000000000"
  secret_key              = "x"
  skip_metadata_api_check = true
  endpoints {
    ec2              = var.url
    sts              = var.url
    iam              = var.url
    sqs              = var.url
    sns              = var.url
    elb              = var.url
    autoscaling      = var.url
    lambda           = var.url
    cloudwatch       = var.url
    cloudwatchlogs   = var.url
    ssm              = var.url
    cloudwatchevents = var.url
  }
}
data "aws_vpc" "default" { default = true }
data "aws_subnet_ids" "all" { vpc_id = data.aws_vpc.default.id }
data "aws_ssm_parameter" "ami" { name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64" }
data "aws_caller_identity" "me" {}
resource "aws_sqs_queue" "dead" { name = "tf-dead" }
resource "aws_sqs_queue" "jobs" {
  name                       = "tf-jobs"
  visibility_timeout_seconds = var.visibility_s
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead.arn, maxReceiveCount = 3 })
  tags                       = { team = "a" }
}
resource "aws_sns_topic" "news" { name = "tf-news" }
resource "aws_sns_topic_subscription" "jobs" {
  topic_arn            = aws_sns_topic.news.arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.jobs.arn
  raw_message_delivery = true
}
resource "aws_iam_role" "web" {
  name               = "tf-web"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }] })
}
resource "aws_iam_role_policy" "inline" {
  name   = "p"
  role   = aws_iam_role.web.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sqs:*", Resource = "*" }] })
}
resource "aws_iam_instance_profile" "web" {
  name = "tf-web"
  role = aws_iam_role.web.name
}
resource "aws_security_group" "web" {
  name        = "tf-web"
  description = "web"
  vpc_id      = data.aws_vpc.default.id
  ingress {
    from_port   = 80
    to_port     = 80
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}
resource "aws_key_pair" "me" {
  key_name   = "tf-me"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDwCd1jPnM4lmSmB5zsBPhyRYzNrXNjrCgHAmpbeAxXJ me@here"
}
resource "aws_instance" "one" {
  ami                    = data.aws_ssm_parameter.ami.value
  instance_type          = var.type
  key_name               = aws_key_pair.me.key_name
  vpc_security_group_ids = [aws_security_group.web.id]
  iam_instance_profile   = aws_iam_instance_profile.web.name
  user_data              = "#!/bin/sh\ntrue\n"
  root_block_device { volume_size = 9 }
  tags = { Name = "tf" }
}
resource "aws_launch_template" "web" {
  name          = "tf-web"
  image_id      = data.aws_ssm_parameter.ami.value
  instance_type = "t3.nano"
}
resource "aws_lb" "web" {
  name    = "tf-web"
  subnets = data.aws_subnet_ids.all.ids
}
resource "aws_lb_target_group" "web" {
  name                 = "tf-web"
  port                 = 80
  protocol             = "HTTP"
  vpc_id               = data.aws_vpc.default.id
  deregistration_delay = 1
}
resource "aws_lb_listener" "web" {
  load_balancer_arn = aws_lb.web.arn
  port              = 80
  protocol          = "HTTP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.web.arn
  }
}
resource "aws_lb_listener_rule" "api" {
  listener_arn = aws_lb_listener.web.arn
  priority     = var.priority
  action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = "no"
      status_code  = "404"
    }
  }
  condition {
    path_pattern { values = ["/api/*"] }
  }
}
resource "aws_autoscaling_group" "web" {
  name                = "tf-web"
  min_size            = 1
  max_size            = var.most
  vpc_zone_identifier = data.aws_subnet_ids.all.ids
  target_group_arns   = [aws_lb_target_group.web.arn]
  launch_template {
    id      = aws_launch_template.web.id
    version = "$Latest"
  }
  tag {
    key                 = "team"
    value               = "a"
    propagate_at_launch = true
  }
}
resource "aws_autoscaling_policy" "up" {
  name                   = "up"
  autoscaling_group_name = aws_autoscaling_group.web.name
  policy_type            = "TargetTrackingScaling"
  target_tracking_configuration {
    predefined_metric_specification { predefined_metric_type = "ASGAverageCPUUtilization" }
    target_value = var.target
  }
}
resource "aws_cloudwatch_metric_alarm" "deep" {
  alarm_name          = "tf-deep"
  comparison_operator = "GreaterThanThreshold"
  evaluation_periods  = 1
  metric_name         = "ApproximateNumberOfMessagesVisible"
  namespace           = "AWS/SQS"
  period              = 60
  statistic           = "Maximum"
  threshold           = 100
  dimensions          = { QueueName = aws_sqs_queue.jobs.name }
  alarm_actions       = [aws_sns_topic.news.arn]
}
resource "aws_cloudwatch_dashboard" "all" {
  dashboard_name = "tf"
  dashboard_body = jsonencode({ widgets = [] })
}
resource "aws_cloudwatch_log_group" "app" {
  name              = "/tf/app"
  retention_in_days = 7
}
resource "aws_ssm_parameter" "p" {
  name  = "/tf/p"
  type  = "SecureString"
  value = "v"
}
resource "aws_lambda_function" "f" {
  function_name = "tf-f"
  role          = aws_iam_role.web.arn
  handler       = "bootstrap"
  runtime       = "provided.al2"
  filename      = "code.zip"
  environment { variables = { AB = "1" } }
}
resource "aws_lambda_event_source_mapping" "jobs" {
  function_name    = aws_lambda_function.f.arn
  event_source_arn = aws_sqs_queue.jobs.arn
  batch_size       = var.batch
}
resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.f.arn
  function_version = "$LATEST"
}
output "account" { value = data.aws_caller_identity.me.account_id }
output "instance" { value = aws_instance.one.id }
output "url" { value = aws_lb.web.dns_name }
